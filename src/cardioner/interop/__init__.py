"""Other systems: the Hugging Face hub, ONNX, and directories of the original CardioNER."""
