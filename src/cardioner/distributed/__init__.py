"""Tag tables on a cluster that is there already: adapters for Ray Data and Spark around the function of one machine."""

from cardioner.distributed.job import TaggingJob
from cardioner.distributed.ray import tag_dataset
from cardioner.distributed.spark import SparkTagger, spark_tagger

__all__ = ["SparkTagger", "TaggingJob", "spark_tagger", "tag_dataset"]
