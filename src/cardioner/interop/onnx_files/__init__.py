"""What an ONNX export carries beside its model: code that runs without cardioner, torch and transformers.

`tag.py` and `viterbi.py` are copied into every export, beside `windows.py` and `tagging.py`, which every model
directory carries too; what they import from here they import there from the file of that name.
"""
