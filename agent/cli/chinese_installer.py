"""What `scan`, `probe`, `read` and `meter-setup` say in Chinese (zh-CN), for installers on the factory floor.

The same codes and placeholders as `agent.cli.installer`; a test compares them.
"""

from collections.abc import Mapping

INSTALLER: Mapping[str, str] = {
    "nobody": "没有电表应答；检查电表供电和 A/B 线（有的厂家标反），并确认没有其他主站占用此线路（{seconds} 秒）",
    "ADDRESS": "地址",
    "SETTINGS": "串口参数",
    "MODEL": "型号",
    "SERIAL": "表号",
    "one meter": "1 块电表，用时 {seconds} 秒",
    "meters": "{count} 块电表，用时 {seconds} 秒",
    "or": " 或 ",
    "or others": " 或其他",
    "unknown": "未知",
    "shared": "两块或更多电表地址相同；只留一块接在线上，给它换一个地址",
    "no profile": "没有匹配的型号配置；可试：metering-agent probe {address}",
    "dlt645": "使用 DL/T 645：可直接读取，或用 meter-setup 切换",
    "nothing understood": "# 可读 {count} 个寄存器，但没有一个像电表的量；请在运行时让负荷变化，\n"
    "# 或延长观察时间：--seconds 900",
    "draft": "# 草稿：地址 {address} 的 {count} 个寄存器中识别出 {understood} 个。",
    "display": "# 显示屏现在应显示 {kwh} kWh。若相差十倍，\n"
    "# 请用 --display-kwh 再运行一次。若经电流互感器接入，还要核对功率并更正 `side`。",
    "coarse": "# 观察期间计数器步进太少：请延长观察时间（--seconds）后再采信。",
    "less likely": "# 可能性较小：电量在 {place}，{type}，{order}，{kwh} kWh",
    "low first": "低字在前",
    "high first": "高字在前",
    "REGISTER": "寄存器",
    "WORDS": "寄存器字",
    "VALUE": "数值",
    "UNIT": "单位",
    "meter": "{meter}：{maker} {model}，线路 {line}，地址 {address}",
    "place": "线路 {line}，地址 {address}（{meter}）",
    "refused": "{place}：{reason}；电表懂 Modbus，但很可能不是 {profile}；请检查型号配置",
    "silent": "{place}：{tries} 次均无应答；{advice}",
    "damaged": "{place}：{reason}；检查是否有第二块电表地址为 {address}，以及 A/B 线、终端电阻、波特率和校验",
    "busy": "{place}：电表 {tries} 次要求等待；请一分钟后再试",
    "check gateway": "检查网关是否配置了单元 {address}，以及其后电表的供电和接线",
    "check meter": "检查电表供电、A/B 线，以及电表是否设为地址 {address} 和 {settings}"
    "（{origin}）；可用 scan 查出其设置",
    "factory": "出厂为 {settings}",
    "no factory": "出厂设置未注明",
    "serial settings": "{baud} 波特，校验 {parity}，{stop}",
    "one stop bit": "1 位停止位",
    "two stop bits": "2 位停止位",
    "found": "线路 {line} 地址 {address} 的电表，{settings}",
    "shows": "  表号 {serial}，电量寄存器 {energy}",
    "not readable": "无法读取",
    "first": "  首先：{advice}",
    "write?": "把此设置写入电表？",
    "done": "完成：电表在 {address} 以 {settings} 应答",
    "power off": "电表已确认，但在新地址尚无应答：请断电再上电，然后用 scan 查看",
    "old language": "电表已确认，但仍使用原规约：请断电再上电，然后运行 scan",
    "done language": "完成：电表在 {address} 以 {settings} 使用 {language}",
    "somewhere": "电表已确认，原处无应答；现使用 {language}：请运行 scan 查看在何处",
}
