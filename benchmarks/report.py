"""The tables, as plain text."""

from statistics import median

from rivals import NOT_HERE

SPEED = "{:<28} {:>8} {:>6} {:>13} {:>2} {:>9} {:>4} {:>9} {:>8}  {}"


def head(result: dict) -> str:
    """Return what was measured on."""
    machine, options = result["machine"], result["options"]
    versions = ", ".join(f"{name} {number or 'not installed'}" for name, number in machine["versions"].items())
    absent = "; ".join(f"{name}: {reason}" for name, reason in NOT_HERE.items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {options['threads']} threads, load {machine['load']:.1f}\n"
        f"{versions}\n{options['images']} images, seed {options['seed']}; not measured: {absent}\n"
    )


def speed_table(found: dict) -> str:
    """Return the rows of one workload: time over the floor, truth, memory."""
    columns = ("", "seconds", "ratio", "min-max", "n", "error", "NaN", "MiB above", "total x", "")
    lines = [found["title"], SPEED.format(*columns).rstrip()]
    bare = found["rows"]["floor"].get("memory", {})
    lines += [_row(row, bare) for row in found["rows"].values()]
    if "largest_change_bfloat16" in found:
        lines.append(f"largest change of a CKA cell by bfloat16: {found['largest_change_bfloat16']:.1e}")
    return "\n".join(lines) + "\n"


def _row(row: dict, bare: dict) -> str:
    """Return one tool's line."""
    if row["error"]:
        return f"{row['label']:<28} {row['error'][:100]}  ({row['note']})"
    memory, ratios = row.get("memory", {}), row["ratios"]
    above, total = memory.get("median_above"), memory.get("median_total")
    note = f"over {row['batches']} batch only; {row['note']}" if row["batches"] else row["note"]
    return SPEED.format(
        row["label"],
        f"{median(row['seconds']):.2f}",
        f"{row['median_ratio']:.2f}",
        f"{min(ratios):.2f}-{max(ratios):.2f}",
        len(ratios),
        "" if row["largest_error"] is None else f"{row['largest_error']:.1e}",
        row["cells_not_numbers"] or "",
        "" if above is None else f"{above:.0f}",
        "" if total is None or "median_total" not in bare else f"{total / bare['median_total']:.2f}",
        memory.get("error", note)[:140],
    )


def checkpoints_table(found: dict) -> str:
    """Return the costs of all against all."""
    lines = [found["title"]]
    for part in ("floor", "all", "without_null"):
        lines.append(f"  {part.replace('_', ' '):<22} {median(one[part] for one in found['seconds']):8.2f} s")
    for part, words in (("ratios", "all over 12 forwards"), ("ratios_without_null", "without the null")):
        ratios = found[part]
        lines.append(f"  {words:<22} {median(ratios):8.2f}   ({min(ratios):.2f}-{max(ratios):.2f})")
    return "\n".join(lines) + "\n"
