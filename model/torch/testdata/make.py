"""Makes small networks with PyTorch, and what they answer: make.py DIR SEED

The modules have the names and shapes of timm's VisionTransformer, of MaskedAutoencoderViT (facebookresearch/mae), and of the
published MVMAE; the checkpoints are built as the training programs around these build them. Beside each NAME.pth stand the
notes a person would write, NAME.pth.toml, and NAME.json: images in [0,1], views, embeddings and, of classifiers, logits.
"""

import argparse
import json
import math
import pathlib
import sys

import torch
from torch import nn

LABELS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
]  # as CheXpert's table has them
SIZE, PATCH, N = 32, 8, 16


class Attention(nn.Module):
    def __init__(self, width, heads, qk_norm):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        if qk_norm:
            self.q_norm = nn.LayerNorm(width // heads, eps=1e-6)
            self.k_norm = nn.LayerNorm(width // heads, eps=1e-6)
        self.qk_norm = qk_norm
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, d))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads, qk_norm=False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads, qk_norm), MLP(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width, channels):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, PATCH, PATCH)


class ViT(nn.Module):
    def __init__(self, width, heads, channels, classes=None):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + N, width))
        self.patch_embed = PatchEmbed(width, channels)
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        if classes:
            self.head = nn.Linear(width, classes)

    def forward(self, x, view):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.norm(self.blocks(x))[:, 0]


class Pooled(ViT):
    """A classifier as MAE's finetuning makes it: the mean of the patches, then a normalisation."""

    def __init__(self, width, heads, channels, classes):
        super().__init__(width, heads, channels, classes)
        self.fc_norm = self.norm
        del self.norm

    def forward(self, x, view):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.fc_norm(self.blocks(x)[:, 1:].mean(1))


class MAE(ViT):
    def __init__(self, width, heads, channels):
        super().__init__(width, heads, channels)
        self.decoder_embed = nn.Linear(width, 16)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.decoder_pos_embed = nn.Parameter(sincos(16), requires_grad=False)
        self.decoder_blocks = nn.ModuleList([Block(16, 2)])
        self.decoder_norm = nn.LayerNorm(16, eps=1e-6)
        self.decoder_pred = nn.Linear(16, PATCH * PATCH * channels)


class Encoder(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embedding = nn.Parameter(torch.zeros(N, 1, width))
        self.mod_embedding = nn.Parameter(torch.zeros(3, width))
        self.patchify = nn.Conv2d(1, width, PATCH, PATCH)
        self.transformer = nn.Sequential(Block(width, heads, True), Block(width, heads, True))
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, x, view):
        x = self.patchify(x).flatten(2).permute(2, 0, 1) + self.pos_embedding + self.mod_embedding[view]
        x = torch.cat([self.cls_token.expand(-1, x.shape[1], -1), x], 0).transpose(0, 1)
        return self.layer_norm(self.transformer(x))[:, 0]


class Decoder(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embedding = nn.Parameter(torch.zeros(1 + N, 1, width))
        self.mod_embedding = nn.Parameter(torch.zeros(3, width))
        self.transformer = nn.Sequential(Block(width, heads, True))
        self.layer_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, PATCH * PATCH)


def sincos(width):
    q = width // 4
    f = 10000 ** (-torch.arange(q, dtype=torch.float64) / q)
    rows = [torch.zeros(width, dtype=torch.float64)]
    for p in range(N):
        column, row = (p % 4) * f, (p // 4) * f
        rows.append(torch.cat([column.sin(), column.cos(), row.sin(), row.cos()]))
    return torch.stack(rows).float()[None]


def randomise(module):
    """Random values everywhere: what a first value of 0 or 1 would hide shows."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * (0.15 if p.dim() > 1 else 0.3) + (1 if p.dim() == 1 and p.shape[0] < 6 else 0))
    return module.eval()


def answer(encoder, head, mean, std, channels):
    images = torch.randint(0, 256, (3, 1, SIZE, SIZE)).float() / 255
    views = torch.tensor([0, 1, 2])
    x = images.expand(-1, channels, -1, -1)
    x = (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)
    with torch.no_grad():
        embedding = encoder(x, views)
        logits = head(embedding) if head else None
        if head and len(logits[0]) == 14 and isinstance(encoder, ViT):  # into the order of this project
            logits = logits[:, [LABELS.index(l) for l in sorted(LABELS)]]
    return {"image": (images * 255).int().flatten().tolist(), "view": views.tolist(), "embedding": embedding.tolist(),
            "logits": logits.tolist() if head else None}


def main():
    out, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    torch.manual_seed(seed)
    imagenet = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    chest = [0.5056], [0.252]

    def leave(name, checkpoint, answers, notes, **options):
        torch.save(checkpoint, out / (name + ".pth"), **options)
        if answers:
            (out / (name + ".json")).write_text(json.dumps(answers))
        if notes:
            (out / (name + ".pth.toml")).write_text(notes)

    # A classifier of timm, three channels, saved as PyTorch did before 1.6.
    vit = randomise(ViT(32, 4, 3, 14))
    leave("vit", vit.state_dict(), answer(vit, vit.head, *imagenet, 3),
          f"mean = {imagenet[0]}\nstd = {imagenet[1]}\nheads = 4\nlabels = {json.dumps(LABELS)}\n", _use_new_zipfile_serialization=False)

    # A pretraining checkpoint of facebookresearch/mae: with optimiser, scaler and options, of which one tells the heads.
    mae = randomise(MAE(48, 6, 3))
    mae.pos_embed = nn.Parameter(sincos(48), requires_grad=False)
    mae.decoder_pos_embed = nn.Parameter(sincos(16), requires_grad=False)
    optimizer = torch.optim.AdamW([{"params": [mae.cls_token], "weight_decay": 0.05}], lr=1e-3, betas=(0.9, 0.95))
    mae.cls_token.grad = torch.ones_like(mae.cls_token)
    optimizer.step()
    leave("mae", {"model": mae.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3,
                  "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7},
                  "args": argparse.Namespace(model="mae_vit_small_patch16", blr=1.5e-4, norm_pix_loss=True, output_dir="", seed=2**40)},
          answer(mae, None, *imagenet, 3), f"mean = {imagenet[0]}\nstd = {imagenet[1]}\n")

    # A classifier that MAE finetuned with its usual pooling.
    pooled = randomise(Pooled(32, 4, 3, 14))
    pooled.pos_embed = nn.Parameter(sincos(32), requires_grad=False)
    leave("mae_finetuned", {"model": pooled.state_dict(), "epoch": 49}, answer(pooled, pooled.head, *imagenet, 3),
          f"mean = {imagenet[0]}\nstd = {imagenet[1]}\nheads = 4\nlabels = {json.dumps(LABELS)}\n")

    # A finetuned classifier of lambert-x/medical_mae, in half precision, wrapped for several devices.
    medical = randomise(ViT(32, 4, 3, 14)).half().float()
    state = {"module." + k: v.half() for k, v in medical.state_dict().items()}
    leave("medical_mae", {"model": state, "args": argparse.Namespace(model="vit_tiny_patch16", nb_classes=14)},
          answer(medical, medical.head, chest[0] * 3, chest[1] * 3, 3),
          f"mean = {chest[0]}\nstd = {chest[1]}\nheads = 4\nlabels = {json.dumps(LABELS)}\n")

    # The published MVMAE: a checkpoint of pretraining, and one of its classifier.
    mvmae = randomise(nn.ModuleDict({"encoders": nn.ModuleDict({"vision": Encoder(32, 4)}), "decoders": nn.ModuleDict({"vision": Decoder(32, 4)})}))
    leave("mvmae", {"epoch": 9, "global_step": 100, "pytorch-lightning_version": "2.4.0", "state_dict": mvmae.state_dict(),
                    "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}, "lr_schedulers": [{"last_epoch": 3, "milestones": [5]}]},
          answer(mvmae["encoders"]["vision"], None, *chest, 1), "")
    classifier = randomise(nn.ModuleDict({"oe_vis_encoder": Encoder(32, 4), "clf_head": nn.Linear(32, 14)}))
    leave("mvmae_classifier", {"epoch": 9, "state_dict": classifier.state_dict(), "hyper_parameters": {"oe_num_labels": 14, "oe_freeze_encoder": True}},
          answer(classifier["oe_vis_encoder"], classifier["clf_head"], *chest, 1), "")

    # No network: tensors of every type, and ones that share their numbers.
    shared = torch.arange(24).reshape(4, 6).float()
    leave("tensors", {"model": {
        "float64": torch.tensor([1.5, -2.25], dtype=torch.float64), "float16": torch.tensor([0.5, 6e-8, -65504], dtype=torch.float16),
        "bfloat16": torch.tensor([1.0, -3.0], dtype=torch.bfloat16), "int64": torch.tensor([[7, -7]]), "int32": torch.tensor([3], dtype=torch.int32),
        "int16": torch.tensor([-300], dtype=torch.int16), "int8": torch.tensor([-4], dtype=torch.int8), "uint8": torch.tensor([250], dtype=torch.uint8),
        "bool": torch.tensor([True, False]), "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4), "shared": shared,
        "transposed": shared.t(), "part": shared[1:3, 2:5], "parameter": nn.Parameter(torch.tensor([9.0])),
    }}, {}, "")


main()
