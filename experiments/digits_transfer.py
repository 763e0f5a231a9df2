"""Transfer from the digits 0 to 4 to the digits 5 to 9 with 30 labelled images a class: the demo as a script.

    python experiments/digits_transfer.py

Prints for each way of using the pretrained network what cross-validation says of it and what is true of it.
"""

import jaxdl
from jaxdl import data
from jaxdl.demo import few_shots

old_task, new_task = data.digits(range(5)), data.digits(range(5, 10))
labelled, unseen = few_shots(new_task, shots=30, seed=0)

model = jaxdl.create("cnn", num_outputs=5)
pretrained = jaxdl.pretrain(model, old_task, jaxdl.Plan(epochs=12, learning_rate=2e-3))

methods = {
    "from scratch": (model, jaxdl.Plan(epochs=30, learning_rate=2e-3)),
    "frozen features": (pretrained, jaxdl.Plan(epochs=60, learning_rate=2e-2, freeze_through="body")),
    "partial fine-tuning": (pretrained, jaxdl.Plan(epochs=30, learning_rate=2e-3, freeze_through="conv1")),
    "full fine-tuning": (pretrained, jaxdl.Plan(epochs=30, learning_rate=1e-3, stage_lr={"head": 3.0})),
}

print(f"{'method':20}  cross-validated   unseen  folds")
for name, (init, plan) in methods.items():
    result = jaxdl.cross_validate(init, labelled, plan, folds=5)
    truth = jaxdl.predict(jaxdl.finetune(init, labelled, plan), unseen).accuracy
    print(f"{name:20}  {result.mean:.3f} ± {result.std:.3f}     {truth:.3f}   {result.fold_strategy['name']}")
