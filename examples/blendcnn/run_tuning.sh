#!/bin/sh
# Make the trained model int8.
#
#   ./run_tuning.sh --input_model=models/ --dataset_location=MRPC/ --output_model=int8/
exec python "$(dirname "$0")/classify.py" --tune "$@"
