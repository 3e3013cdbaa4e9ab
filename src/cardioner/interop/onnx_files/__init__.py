"""The code of an ONNX export: it needs onnxruntime, numpy and tokenizers, and neither cardioner nor torch.

`tag.py` runs the model. `viterbi.py` decodes in numpy. `encoding.py`, `windows.py` and `tagging.py` are the files that
every model directory carries too: they tokenise notes, cut them into windows and turn tags into spans.
"""
