"""What `adjust`, `witness` and `manual` say: English and Chinese, code by code; a test compares them."""

from collections.abc import Mapping

ENGLISH: Mapping[str, str] = {
    "malformed": "Refused: cannot be said: {text}.",
    "unknown-meter": 'Refused: there is no meter "{meter}" in the site file.',
    "never-read": "Refused: the agent has never read {meter}, so nothing of it is sealed.",
    "no-epoch": "Refused: {meter} has no epoch {epoch}; the newest is {last} (see: metering-agent trace METER TIME).",
    "not-sealed": "Refused: delta {n} of {meter}, epoch {epoch}, is not sealed yet; the newest is {last}.",
    "overlaps": "Refused: statement {id} by {by} adjusts deltas {n} already; what is sealed twice adjusted would mean"
    " nothing. Name the deltas that are left, or, where it was wrong, see config/CORRECTIONS.md.",
    "backwards": "Refused: its first delta comes after its last.",
    "factor-one": "Refused: a factor of 1 changes nothing.",
    "energy-zero": "Refused: an energy of 0 changes nothing.",
    "no-reading": "Refused: {text!r} is not a reading in kWh such as 1234.5.",
    "no-statement": "Refused: there is no statement {id}; see: metering-agent adjust --list.",
    "told": "Refused: statement {id} is in the chain (chain {chain}, seq {seq}) and cannot be taken back.",
    "ask": "Is this right? It is sealed at the next boundary and stays in the chain for ever",
    "noted": "Noted as statement {id}. The next boundary seals it; until then: metering-agent adjust --undo {id}",
    "unnoted": "Nothing is noted. It could be: the same with --yes.",
    "ledger": "The ledger of {meter} stands at {register_kwh} kWh, epoch {epoch}, delta {n}, read {at}.",
    "waits": "waits for a boundary",
    "place": "chain {chain}, seq {seq}",
    "none": "Nothing was stated on this gateway.",
    "witness": "{meter}: the display ({register}) shows {display_kwh} kWh, says {by}.",
    "manual": "{meter}, epoch {epoch}, delta {n}: {text} ({by}).",
    "adjust": "{meter}, epoch {epoch}, deltas {n_from} to {n_to}: {what}. {reason} (evidence {evidence}, {by}).",
    "factor": "their energy times {num}/{den}",
    "energy": "{energy_kwh} kWh added, wrong by at most {bound_kwh} kWh",
}

CHINESE: Mapping[str, str] = {
    "malformed": "拒绝：无法这样声明：{text}。",
    "unknown-meter": '拒绝：站点文件中没有电表 "{meter}"。',
    "never-read": "拒绝：代理从未读到 {meter}，因此没有封存过它的电量。",
    "no-epoch": "拒绝：{meter} 没有第 {epoch} 计量段；最新为 {last}（参见：metering-agent trace METER TIME）。",
    "not-sealed": "拒绝：{meter} 第 {epoch} 计量段的增量 {n} 尚未封存；最新为 {last}。",
    "overlaps": "拒绝：声明 {id}（{by}）已经调整了增量 {n}；同一增量调整两次没有意义。请只写余下的增量；"
    "若原声明有误，见 config/CORRECTIONS.md。",
    "backwards": "拒绝：第一个增量在最后一个之后。",
    "factor-one": "拒绝：系数为 1 不改变任何数值。",
    "energy-zero": "拒绝：电量为 0 不改变任何数值。",
    "no-reading": "拒绝：{text!r} 不是 kWh 读数，例如 1234.5。",
    "no-statement": "拒绝：没有声明 {id}；参见：metering-agent adjust --list。",
    "told": "拒绝：声明 {id} 已在链中（链 {chain}，序号 {seq}），不能撤销。",
    "ask": "以上是否正确？将在下一个边界封存，并永远留在链中",
    "noted": "已登记为声明 {id}。下一个边界封存；在此之前可撤销：metering-agent adjust --undo {id}",
    "unnoted": "尚未登记。可以登记：同样的命令加 --yes。",
    "ledger": "{meter} 账上止码 {register_kwh} kWh，第 {epoch} 计量段，增量 {n}，读于 {at}。",
    "waits": "等待边界",
    "place": "链 {chain}，序号 {seq}",
    "none": "本网关上没有任何声明。",
    "witness": "{meter}：显示屏（{register}）为 {display_kwh} kWh，声明人 {by}。",
    "manual": "{meter}，第 {epoch} 计量段，增量 {n}：{text}（{by}）。",
    "adjust": "{meter}，第 {epoch} 计量段，增量 {n_from} 至 {n_to}：{what}。{reason}（证据 {evidence}，{by}）。",
    "factor": "其电量乘以 {num}/{den}",
    "energy": "加 {energy_kwh} kWh，误差至多 {bound_kwh} kWh",
}
