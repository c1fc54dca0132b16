"""PyTorch's side of a training case: parameters as one JSON object on standard input, what was measured as one line.

The model, its losses and its optimiser are those of ../train/peer.py, which is compared with the golden cases. As in the trainer,
a step takes stored bytes from the host, crops, mirrors and jitters them on the device, and updates the weights; "beforehand" has
all batches ready in pinned memory, else a thread makes them beside the steps.
"""

import json
import os
import queue
import sys
import threading
import time

import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
import peer

STORED = 256


def resample(start, side, flip, size):
    """Weights [V,size,256] of each stored row in each row of the output, as train/augment.go has them."""
    i = torch.arange(size, device=start.device, dtype=torch.float32).view(1, size, 1)
    p = torch.arange(STORED, device=start.device, dtype=torch.float32).view(1, 1, STORED)
    start, side, flip = (x.view(-1, 1, 1) for x in (start, side, flip))
    i = i + flip * (size - 1 - 2 * i)
    scale = side / size
    lo = start + i * scale
    hi = lo + scale
    area = (torch.minimum(hi, p + 1) - torch.maximum(lo, p)).clamp(min=0) / scale
    centre = torch.maximum(start, torch.minimum((lo + hi) / 2 - 0.5, start + side - 1))
    bilinear = (1 - (p - centre).abs()).clamp(min=0)
    return torch.where(scale < 1, bilinear, area)


def augment(stored, draws, size):
    """Images [V,size,size] in [0,1] of stored bytes [V,256,256]; draws [V,6]."""
    top, left, side, flip, brightness, contrast = draws.unbind(1)
    x = stored.float() / 255
    x = resample(top, side, torch.zeros_like(flip), size) @ x @ resample(left, side, flip, size).transpose(1, 2)
    x = (x * brightness.view(-1, 1, 1)).clamp(0, 1)
    mean = x.mean((1, 2), keepdim=True)
    return ((x - mean) * contrast.view(-1, 1, 1) + mean).clamp(0, 1)


def host_batch(rng, p, pixels):
    _, view, keep, restore, study = peer.batch(rng, p["spec"], p["batch"], "packed", images=False)
    stored = torch.from_numpy(pixels[rng.integers(0, len(pixels), p["batch"])])
    v = p["batch"]
    side = STORED * np.sqrt(0.5 + 0.5 * rng.random(v))
    room = STORED - side
    jitter = rng.random(v) < 0.8
    draws = np.stack([rng.random(v) * room, rng.random(v) * room, side, rng.random(v) < 0.5,
                      np.where(jitter, 0.6 + 0.8 * rng.random(v), 1), np.where(jitter, 0.6 + 0.8 * rng.random(v), 1)], 1)
    out = [stored, torch.tensor(draws, dtype=torch.float32), view, keep, restore, study]
    return [x.pin_memory() for x in out] if p["device"] == "cuda" else out


def grid(p):
    return p["spec"]["image_size"] // p["spec"]["patch_size"]


def main():
    p = json.load(sys.stdin)
    device = torch.device(p["device"])
    cuda = p["device"] == "cuda"
    torch.manual_seed(1)
    model = peer.MVMAE(p["spec"]).to(device)
    run = torch.compile(model) if p["compile"] else model
    decayed = [w for w in model.parameters() if w.dim() > 1]
    rest = [w for w in model.parameters() if w.dim() <= 1]
    opt = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0}], lr=1e-4, betas=(0.9, 0.95), fused=True)
    size = p["spec"]["image_size"]
    crop = torch.compile(augment) if p["compile"] else augment

    def step(batch):
        stored, draws, view, keep, restore, study = (x.to(device, non_blocking=True) for x in batch)
        image = crop(stored, draws, size)
        opt.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=p["half"]):
            total, _, _ = run(image, view, keep, restore, study, 0.5)
        total.backward()
        opt.step()
        return total.item()  # waits for the device, as the trainer does for its metrics

    pixels = np.memmap(p["pixels"], np.uint8, "r").reshape(-1, STORED, STORED)
    rng = np.random.default_rng(1)
    n = p["warm"] + p["steps"]
    if p["beforehand"]:
        batches = iter([host_batch(rng, p, pixels) for _ in range(n)])
        take = lambda: next(batches)
    else:
        ready = queue.Queue(2)
        threading.Thread(target=lambda: [ready.put(host_batch(rng, p, pixels)) for _ in range(n)], daemon=True).start()
        take = ready.get
    seconds, losses = [], []
    for _ in range(n):
        start = time.perf_counter()
        losses.append(step(take()))
        seconds.append(time.perf_counter() - start)
    if not np.isfinite(losses).all():
        sys.exit("a loss is not finite")
    timed = seconds[p["warm"]:]
    out = {
        "torch": torch.__version__, "compile": p["compile"], "batch": p["batch"], "beforehand": p["beforehand"],
        "visible": int(grid(p) ** 2 * 0.1 + 0.5), "first_step_seconds": seconds[0], "step_seconds": float(np.median(timed)),
        "step_seconds_quartiles": [float(np.quantile(timed, q)) for q in (0.25, 0.75)], "losses": losses,
    }
    if cuda:
        out["allocated_peak_bytes"] = torch.cuda.max_memory_allocated()
        out["reserved_peak_bytes"] = torch.cuda.max_memory_reserved()
    print(json.dumps(out))


if __name__ == "__main__":
    main()
