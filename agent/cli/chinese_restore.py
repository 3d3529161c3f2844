"""What `restore` says in Chinese (zh-CN), code by code as `agent.cli.restore`; a test compares them."""

from collections.abc import Mapping

RESTORE: Mapping[str, str] = {
    "platform": "{file} 是平台的说明，时间 {said_at}。",
    "status": "{file} 是本网关自己的最后状态，时间 {said_at}。此后平台入账的内容不得缺失。",
    "export": "{file} 是本网关自己的导出，封存至 {said_at}。此后平台入账的内容不得缺失。",
    "head": "那边的链到 {head} 为止。",
    "no head": "平台尚未登记本网关的任何内容。",
    "own": "本地日志自己的链为 {chain}，到 {seq}；将放弃此链，并把其中全部读数重新上报。",
    "no own": "本地日志尚未封存任何内容。",
    "meter": "{meter}：那边为第 {epoch} 计量段，增量 {n}，{kwh} kWh，读取于 {at}，表号 {serial}",
    "here": "   本地 {kwh} kWh，读取于 {at}，表号 {serial}",
    "unknown": "未知",
    "goes-on": "   接续：此后的 {rise_kwh} kWh 将上报，不会重复",
    "new-epoch": "   表号不同或未知，或变比不同：开始新计量段，并声明其间的空缺",
    "below": "   本地的寄存器较小：由此后自己的读数判定是翻转还是新计量段",
    "unknown-there": "{meter}：那边没有；从本地第一次读数起上报",
    "not-read-here": "   本地日志尚未读到；再次读到时接续",
    "ask by": "您的姓名（记入证据链）",
    "ask confirm": "平台确实停在此处吗？将在其后开始新链，之后不能撤回",
    "could": "没有改动。可以执行：同样的命令加 --by 姓名 --yes。",
    "done": "完成：新链接在 {head} 之后，相应的批次正在发送。",
    "done anew": "完成：新链从头开始，相应的批次正在发送。",
    "not-genuine": "该文件不可信：{reason}",
    "platform-answers": '此站点由平台自己应答（acknowledgement = "platform"），只认平台的说明：请等待其应答，'
    "使用 courier，或请平台操作员执行：metering-sim platform heads",
    "stale": "平台此后已有更新的说明；请向其操作员索取新文件",
    "follows": "无需恢复：本地日志会自行接在 {head} 之后",
    "nobody": "没有确认人；请给出姓名：--by 姓名",
}
