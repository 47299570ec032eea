"""The YAML files that a user has, by their names."""

PTQ = """
model: {name: digits, framework: pytorch_fx}
quantization: {calibration: {sampling_size: 32}}
tuning: {accuracy_criterion: {relative: 0.01}}
"""
QAT = PTQ.replace("{calib", "{approach: quant_aware_training, calib")
PRUNING = """
model: {name: digits, framework: pytorch_fx}
pruning:
  approach:
    weight_compression: {target_sparsity: 0.5, end_epoch: 2, pruners: [{}]}
tuning: {accuracy_criterion: {relative: 0.9}}
"""
BY_YAML = """
model: {name: resnet, framework: pytorch_fx}
evaluation:
  accuracy:
    metric: {topk: 1}
    dataloader: &numbers {batch_size: 8, dataset: {dummy: {shape: [32, 1, 8, 8], label: true}}}
  performance: {warmup: 1, iteration: 6, dataloader: *numbers}
"""
YAMLS = {
    "ptq.yaml": PTQ,
    "conf.yaml": PTQ,
    "deploy.yaml": PTQ + "evaluation: {performance: {warmup: 1, iteration: 6}}\n",
    "lpot_workspace/pytorch_fx/resnet/deploy.yaml": BY_YAML,
    "qat.yaml": QAT,
    "pruning.yaml": PRUNING,
    "prune_and_quantize.yaml": PRUNING + "quantization: {calibration: {sampling_size: 32}}\n",
    "both.yaml": PRUNING + "quantization: {calibration: {sampling_size: 32}}\n",
}
