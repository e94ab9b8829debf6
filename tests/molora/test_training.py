"""Trained by TRL: the loss falls, routers move under our routing, and checkpoints keep them."""

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file
from trl import SFTConfig, SFTTrainer

import tiny_models
from taia.molora import MoloraConfig

TEXT = [{"text": f"the {word} sat on the mat"} for word in ("cat", "dog", "cow", "hen")] * 2


def train(folder, coef=0.0, **settings):
    torch.manual_seed(0)
    losses = []

    class Trainer(SFTTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            losses.append(loss.item())
            return loss + coef * model.router_aux_loss() if coef else loss

        def _send_telemetry(self):
            pass

    trainer = Trainer(
        model=tiny_models.llama(spread=0.1),
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=12,
            save_steps=4,
            per_device_train_batch_size=8,
            learning_rate=2e-2,
            lr_scheduler_type="constant",
            bf16=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            report_to="none",
            disable_tqdm=True,
            logging_steps=100,
        ),
        train_dataset=Dataset.from_list(TEXT),
        processing_class=tiny_models.tokenizer(),
        peft_config=MoloraConfig(
            task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.05, **settings
        ),
    )
    routers = {
        name: parameter.detach().clone()
        for name, parameter in trainer.model.named_parameters()
        if "lora_router" in name
    }
    trainer.train()
    return trainer.model, losses, routers


def moved(model, routers):
    now = dict(model.named_parameters())
    return {name for name, before in routers.items() if not torch.equal(now[name], before)}


def test_the_loss_falls_routers_move_and_every_checkpoint_has_them(tmp_path):
    model, losses, routers = train(tmp_path, coef=0.01)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert moved(model, routers) == set(routers)
    steps = sorted(tmp_path.glob("checkpoint-*"))
    assert len(steps) == 3
    seen = [load_file(step / "adapter_model.safetensors") for step in steps]
    kept = [{n: t for n, t in tensors.items() if "lora_router" in n} for tensors in seen]
    assert all(len(each) == len(routers) for each in kept)
    assert all(not torch.equal(kept[0][name], kept[-1][name]) for name in kept[0])
    ids = torch.arange(12)[None]
    again = PeftModel.from_pretrained(tiny_models.llama(spread=0.1), tmp_path / "checkpoint-12")
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).logits, model.eval()(ids).logits)


@pytest.mark.parametrize("routing", ["topk_softmax", "softmax_topk"])
def test_with_one_expert_the_language_loss_moves_routers_under_ours_only(tmp_path, routing):
    """The load-balancing loss would move them under both, and is left out here."""
    model, losses, routers = train(tmp_path, routing=routing)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3]), "the experts learn under both"
    assert moved(model, routers) == (set(routers) if routing == "softmax_topk" else set())
