#!/bin/sh
# Judge or time the int8 model, or the fp32 one.
#
#   ./run_benchmark.sh --int8=true --mode=benchmark --batch_size=32
#   ./run_benchmark.sh --int8=False --mode=benchmark --batch_size=32 --input_model=models/
exec python "$(dirname "$0")/classify.py" --mode=benchmark "$@"
