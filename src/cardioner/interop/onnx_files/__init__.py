"""The code of an ONNX export: it needs onnxruntime, numpy and tokenizers, and neither cardioner nor torch.

`tag.py` is the command. `tagger.py` runs the graph, and `viterbi.py` decodes in numpy: the package's own engine without
torch uses the same two files. `encoding.py`, `windows.py` and `tagging.py` are the files that every model directory
carries too: they tokenise notes, cut them into windows and turn tags into spans.
"""
