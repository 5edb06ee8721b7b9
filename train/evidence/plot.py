"""The plot of RESULTS.md: held-out loss against load and the model's FLOPs, accuracy against these, as an SVG without dependencies."""
from statistics import mean

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 470, 380, 70, 44, 24, 56
COLORS = {"null": "#1b6ca8", "balance": "#c2571a", "none": "#5b8c2a", "top": "#333333"}
NAMES = {"null": "AdaMoE, ℓ_null", "balance": "balance loss", "none": "no router loss", "top": "top-1, top-2"}


def points_of(rows, x_key, y_key):
    points = []
    for (label, loss), results in rows.items():
        kind = "top" if label.startswith("top-") and loss == "null" else loss
        points.append((mean(r[x_key] for r in results), mean(r[y_key] for r in results), label, kind))
    return points


def ticks(low, high):
    step = next(s for s in (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2) if (high - low) / s <= 7)
    first = int(low / step) + (low > int(low / step) * step)
    return [round(i * step, 6) for i in range(first, int(high / step) + 1)]


def panel(points, offset, top, title):
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    pad_x, pad_y = 0.08 * (max(xs) - min(xs)) or 0.1, 0.1 * (max(ys) - min(ys)) or 0.01
    x0, x1, y0, y1 = min(xs) - pad_x, max(xs) + pad_x, min(ys) - pad_y, max(ys) + pad_y
    right, bottom = offset + WIDTH - RIGHT, top + HEIGHT - BOTTOM

    def at(x, y):
        left = offset + LEFT
        return left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - y0) / (y1 - y0) * (bottom - top - TOP)

    out = []
    for x in ticks(x0, x1):
        px, _ = at(x, y0)
        out.append(f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{top + TOP}" y2="{bottom}" class="grid"/>')
        out.append(f'<text x="{px:.1f}" y="{bottom + 18}" text-anchor="middle">{x:g}</text>')
    for y in ticks(y0, y1):
        _, py = at(x0, y)
        out.append(f'<line x1="{offset + LEFT}" x2="{right}" y1="{py:.1f}" y2="{py:.1f}" class="grid"/>')
        out.append(f'<text x="{offset + LEFT - 8}" y="{py + 4:.1f}" text-anchor="end">{y:g}</text>')
    out.append(f'<text x="{(offset + LEFT + right) / 2:.0f}" y="{top + HEIGHT - 16}" text-anchor="middle">{title}</text>')
    top_two = [p for p in points if p[2] == "top-2"]
    if top_two:
        _, py = at(x0, top_two[0][1])  # the first is that with the balance loss
        out.append(f'<line x1="{offset + LEFT}" x2="{right}" y1="{py:.1f}" y2="{py:.1f}" stroke="#333" stroke-dasharray="5 4"/>')
    for kind in ("top", "null", "balance", "none"):
        line = sorted(p for p in points if p[3] == kind)
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(p[0], p[1]) for p in line))
        out.append(f'<polyline points="{path}" fill="none" stroke="{COLORS[kind]}" stroke-opacity="0.45" stroke-width="1.5"/>')
        for x, y, label, _ in line:
            px, py = at(x, y)
            out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4.5" fill="{COLORS[kind]}"/>')
            if kind in ("top", "null"):
                out.append(f'<text x="{px + 7:.1f}" y="{py - 7:.1f}" fill="{COLORS[kind]}">{label}</text>')
    return out


def write(path, router, choices):
    """`router` and `choices`: {(router, router loss): [results of the seeds]}. Two panels for each that has points enough."""
    rows = [(table, key, name) for table, key, name in ((router, "loss", "held-out loss, nats per token"),
                                                        (choices, "accuracy", "accuracy of multiple choice")) if len(table) > 1]
    if not rows:
        return
    width, height = 2 * WIDTH, len(rows) * HEIGHT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
           "<style>.grid{stroke:#ddd;stroke-width:1}</style>",
           f'<rect width="{width}" height="{height}" fill="white"/>']
    x = LEFT
    for kind, name in NAMES.items():
        out.append(f'<circle cx="{x}" cy="14" r="4.5" fill="{COLORS[kind]}"/><text x="{x + 10}" y="18">{name}</text>')
        x += 130
    out.append(f'<text x="{x + 10}" y="18">dashed: top-2</text>')
    for i, (table, key, name) in enumerate(rows):
        top = i * HEIGHT
        out.append(f'<text x="{LEFT}" y="{top + TOP - 8}" font-weight="bold">{name}</text>')
        out += panel(points_of(table, "load", key), 0, top, "load: true experts per token and layer")
        out += panel(points_of(table, "model_flops_ratio", key), WIDTH, top, "the whole model's FLOPs, as a share of top-2's")
    path.write_text("\n".join(out + ["</svg>"]) + "\n")
