"""The training step of recipe "paper" in PyTorch, eager mode: the peer of the trainer.

    peer.py check CASE.safetensors             compare losses and gradients with a golden case
    peer.py run SPEC.json BATCH MODE STEPS
MODE is "packed" (BATCH view images, whole studies side by side, as the trainer does it) or "slots" (as many studies in three
slots each, the empty ones encoded too, as the reference code does it). Protocol: see benchmarks/paired/process.go.

Images are made beforehand: what reading and augmentation cost is not counted here, while the trainer does both.
"""

import json
import os
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def sincos(grid, width, cls):
    q = width // 4
    f = 10000.0 ** (-np.arange(q) / q)
    row, col = np.divmod(np.arange(grid * grid), grid)
    table = np.concatenate([np.sin(np.outer(col, f)), np.cos(np.outer(col, f)), np.sin(np.outer(row, f)), np.cos(np.outer(row, f))], 1)
    if cls:
        table = np.concatenate([np.zeros((1, width)), table])
    return torch.tensor(table, dtype=torch.float32)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
    def __init__(self, width, heads, ratio, eps):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, ratio * width), "fc2": nn.Linear(ratio * width, width)})

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Stack(nn.Module):
    def __init__(self, width, depth, heads, s):
        super().__init__()
        self.transformer = nn.ModuleList(Block(width, heads, s["mlp_ratio"], s["block_eps"]) for _ in range(depth))
        self.layer_norm = nn.LayerNorm(width, s["final_eps"])

    def forward(self, x):
        for block in self.transformer:
            x = block(x)
        return self.layer_norm(x)


class MVMAE(nn.Module):
    """Parameter names are those of the trainer's checkpoints."""

    def __init__(self, s):
        super().__init__()
        self.s, d = s, s["decoder"]
        width, pixels, grid = s["width"], s["patch_size"] ** 2, s["image_size"] // s["patch_size"]
        self.encoder = Stack(width, s["depth"], s["heads"], s)
        self.encoder.patchify = nn.Linear(pixels, width)
        self.encoder.mod_embedding = nn.Parameter(torch.randn(3, width) * 0.02)
        self.encoder.cls_token = nn.Parameter(torch.randn(width) * 0.02)
        self.decoder = Stack(d["width"], d["depth"], d["heads"], s)
        self.decoder.embed = nn.Linear(width, d["width"])
        self.decoder.mask_token = nn.Parameter(torch.randn(d["width"]) * 0.02)
        self.decoder.head = nn.Linear(d["width"], pixels)
        self.register_buffer("pos", sincos(grid, width, False))
        self.register_buffer("decoder_pos", sincos(grid, d["width"], True))
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.xavier_uniform_(m.weight)
                nn.init.zeros_(m.bias)

    def patchify(self, image):  # [V,S,S] to [V,N,P*P]
        g, p = self.s["image_size"] // self.s["patch_size"], self.s["patch_size"]
        x = (image - self.s["pixel_mean"]) / self.s["pixel_std"]
        return x.view(-1, g, p, g, p).transpose(2, 3).reshape(-1, g * g, p * p)

    def forward(self, image, view, keep, restore, study, beta):
        """Losses of V images: view [V], keep [V,K], restore [V,N], study [G,V]."""
        v, k, n = image.shape[0], keep.shape[1], restore.shape[1]
        target = self.patchify(image)
        visible = torch.take_along_dim(target, keep[..., None], 1)
        x = self.encoder.patchify(visible) + self.pos[keep] + self.encoder.mod_embedding[view][:, None]
        x = torch.cat([self.encoder.cls_token.expand(v, 1, -1), x], 1)
        tokens = self.encoder(x)  # [V,1+K,D]

        y = self.decoder.embed(tokens)
        masked = self.decoder.mask_token.expand(v, n - k, -1)
        patches = torch.take_along_dim(torch.cat([y[:, 1:], masked], 1), restore[..., None], 1)
        y = torch.cat([y[:, :1], patches], 1) + self.decoder_pos
        y = y + F.linear(self.encoder.mod_embedding[view], self.decoder.embed.weight)[:, None]
        patches = self.decoder.head(self.decoder(y)[:, 1:])

        with torch.autocast(image.device.type, enabled=False):  # losses are float32 whatever products are
            return self.losses(patches.float(), target, restore, study, tokens.float(), beta)

    def losses(self, patches, target, restore, study, tokens, beta):
        (v, n), k = restore.shape, tokens.shape[1] - 1
        hidden = (restore >= k).float()
        rec_view = ((patches - target).square().mean(-1) * hidden).sum(1) / (n - k)
        sizes = study.sum(1)
        studies = (sizes > 0).sum().clamp(min=1)
        rec = (study @ rec_view / sizes.clamp(min=1)).sum() / studies

        z = tokens.reshape(v, -1)
        spread = (z - study.T @ (study @ z / sizes.clamp(min=1)[:, None])).square().mean(-1)
        factor = torch.where(sizes > 1, 2 / (sizes - 1).clamp(min=1), 0)
        align = (factor * (study @ spread)).sum() / studies
        return rec + beta * align, rec, align


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    meta = header.pop("__metadata__", {})
    kinds = {"F32": np.float32, "I64": np.int64, "I32": np.int32, "F64": np.float64, "U8": np.uint8}
    return {n: torch.tensor(np.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]], kinds[t["dtype"]]).reshape(t["shape"]))
            for n, t in header.items()}, meta


def check(path):
    t, meta = read_safetensors(path)
    c = json.loads(meta["config"])
    s = {"image_size": c["image"], "patch_size": c["patch"], "width": c["enc_dim"], "depth": c["enc_depth"], "heads": c["enc_heads"],
         "mlp_ratio": c["mlp_ratio"], "block_eps": c["block_norm_eps"], "final_eps": c["final_norm_eps"], "pixel_mean": 0, "pixel_std": 1,
         "decoder": {"width": c["dec_dim"], "depth": c["dec_depth"], "heads": c["dec_heads"]}}
    model = MVMAE(s)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(t["param." + name].view_as(p))
    avail = t["in.avail"].bool()
    row = avail.nonzero()[:, 0]
    perm = t["in.perm"][avail].long()
    study = F.one_hot(row, len(avail)).T.float()
    image = t["in.image"][avail].view(-1, c["image"], c["image"])
    total, rec, align = model(image, t["in.view"][avail].long(), perm[:, :c["visible"]], perm.argsort(1), study, c["beta"])
    total.backward()
    for name, got in (("total_loss", total), ("rec_loss", rec), ("align_loss", align)):
        torch.testing.assert_close(got.detach().view(-1), t["out." + name].view(-1), atol=1e-4, rtol=0)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad.view(-1), t["grad." + name].view(-1), atol=1e-5, rtol=1e-4, msg=lambda m: name + ": " + m)


def batch(rng, s, size, mode, images=True):
    """Random images, or none, in studies of 1, 2 and 3 views, 0.65 : 0.30 : 0.05, that is 1.40 views a study."""
    n = (s["image_size"] // s["patch_size"]) ** 2
    k = int(n * 0.1 + 0.5)
    counts = rng.permutation(([1] * 13 + [2] * 6 + [3]) * (size // 20 + 1))
    if mode == "packed":
        ends = np.minimum(np.cumsum(counts), size)
        counts = np.diff(np.concatenate([[0], ends]))
        counts, v = counts[counts > 0], size
        row = np.repeat(np.arange(len(counts)), counts)
        owner = row
        study = np.zeros((size, v), np.float32)
        study[row, np.arange(v)] = 1
    else:
        studies = round(size / 1.4)
        counts, v = counts[:studies], 3 * studies
        owner = np.repeat(np.arange(studies), 3)
        study = np.zeros((studies, v), np.float32)
        study[owner, np.arange(v)] = np.tile([0, 1, 2], studies) < counts[owner]
    order = np.argsort(rng.random((owner[-1] + 1, n)), 1)[owner]  # one mask a study
    image = rng.random((v if images else 0, s["image_size"], s["image_size"]), np.float32)
    return [torch.tensor(x) for x in (image, rng.integers(0, 3, v), order[:, :k].copy(), order.argsort(1), study)]


def run(spec, size, mode, steps):
    torch.set_num_threads(os.cpu_count())
    with open(spec) as f:
        s = json.load(f)
    torch.manual_seed(1)
    model = MVMAE(s)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    opt = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0}], lr=1e-4, betas=(0.9, 0.95), fused=True)
    rng = np.random.default_rng(1)
    batches = [batch(rng, s, size, mode) for _ in range(2)]

    def step(i):
        opt.zero_grad(set_to_none=True)
        total, _, _ = model(*batches[i % 2], 0.5)
        total.backward()
        opt.step()
        return total.item()

    def cpu():
        u = resource.getrusage(resource.RUSAGE_SELF)
        return u.ru_utime + u.ru_stime

    step(0)
    print(flush=True)
    images = size if mode == "packed" else round(size / 1.4) * 1.4  # of studies that exist, at 1.40 a study
    for _ in sys.stdin:
        start, used = time.perf_counter(), cpu()
        for i in range(steps):
            loss = step(i)
        if not np.isfinite(loss):
            sys.exit("the loss is not finite")
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu_seconds": cpu() - used, "done": steps * images}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check(sys.argv[2])
        print(torch.__version__)
    else:
        run(sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
