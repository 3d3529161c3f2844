"""The status page in Chinese (zh-CN), for installers and operators on the factory floor.

`SENTENCES` has the codes and placeholders of `agent.service.advice`, `LABELS` those of `agent.cli.statuspage`; a test
compares them. Reasons that come from below (a library, the operating system, the broker) stay in English inside them.
"""

from collections.abc import Mapping

SENTENCES: Mapping[str, tuple[str, str]] = {
    "line-down": (
        "线路 {subject} 中断：{reason}",
        "检查适配器或网关 {place} 的插头、电源和电缆；恢复后会自动重新打开",
    ),
    "line-noise": (
        "线路 {subject}：最近有 {percent} % 的应答损坏",
        "检查是否有两块电表地址相同、A/B 线接反或松动、缺少 120 欧终端电阻",
    ),
    "line-babble": (
        "线路 {subject}：有设备不停发送；最近有 {count} 次读取等待一秒后放弃",
        "逐个断开设备直到线路安静；波特率设置错误的设备也会如此",
    ),
    "line-diagnosis": (
        "线路 {subject}，可能原因 {cause}：{evidence}",
        "停止代理后可进一步检查：metering-agent doctor {subject} --site SITE",
    ),
    "line-busy": (
        "线路 {subject} 的占用率为 {percent} %",
        "提高波特率，把部分电表移到另一条线路，或加长 poll",
    ),
    "meter-silent": (
        "电表 {subject}（线路 {line}，地址 {address}）无应答：{reason}",
        "检查其供电、A/B 线、地址和波特率；恢复后会读到全部电量，不会丢失",
    ),
    "meter-late": (
        "电表 {subject}（线路 {line}）上次读数在 {age} 前",
        "检查其供电和接线；若整条线路都迟，说明线路对该间隔来说太慢",
    ),
    "meter-held": (
        "电表 {subject}：读数 {register} kWh 暂不入账：{reason}",
        "三个边界之后代理会判定是误读还是新计量段；若一直如此，与电表显示屏核对",
    ),
    "meter-rise": (
        "电表 {subject}：读数 {register} kWh 暂不入账：{reason}",
        "若显示屏与之一致，说明回路功率超过站点文件中的 rated_kw：请更正",
    ),
    "meter-refused": (
        "电表 {subject} 没有可用读数：{reason}（寄存器字 {words}）",
        "与电表显示屏核对；检查型号配置是否正确：{profile}",
    ),
    "meter-identity": (
        "电表 {subject} 与站点文件不符：{reason}",
        "换回原来的电表，或在站点文件中写入新的表号",
    ),
    "meter-suspect": (
        "电表 {subject}：上一间隔带有标记 {flags}",
        "把显示屏与负荷核对；电量已入账，平台显示为可疑",
    ),
    "meter-ratio": (
        "电表 {subject} 内设 {register} 为 {at_meter}，站点文件为 {in_site}",
        "以站点文件为准：把两者与互感器铭牌核对，更正错误的一个",
    ),
    "meter-returned": (
        "电表 {subject} 于 {since} 恢复（此前长时间无应答、更换过地址或读数疑为另一电表的），无法证明自己的身份",
        "到现场查看后确认：metering-agent exchange {subject} --same --by 姓名 --site SITE",
    ),
    "meter-order": (
        "{by} 登记了电表 {subject} 的更换，尚未确认",
        "确认：metering-agent exchange {subject} --yes --site SITE，或用 --undo 撤销",
    ),
    "intervals-stopped": (
        "已有 {age} 没有关闭任何间隔",
        "查看日志（journalctl -u metering-agent -p warning）；若查不出原因，重启代理",
    ),
    "intervals-coarse": (
        "日志库中未确认的数据过多，目前间隔延长为 {length}",
        "查明平台为何不确认；电量准确，只是时间分辨率变粗",
    ),
    "intervals-skipped": (
        "最近一小时内有边界被跳过（启动以来共 {skipped} 次）",
        "用 metering-agent check 查看线路是否够快；电量准确，只是时间分辨率变粗",
    ),
    "journal-full": ("有一个间隔无法写入：{reason}", "清理 {path} 所在文件系统；电量仍在电表中，之后会入账"),
    "journal-space": ("日志库旁只剩 {free} MB 空间", "清理 {path} 所在文件系统，或把日志库移到更大的盘"),
    "journal-budget": (
        "日志库已用 {size} MB，上限 {budget} MB",
        "查明平台为何不确认，或加大 journal.budget_mb",
    ),
    "journal-asking": (
        "平台与日志库对最后发送的内容说法不一；平台答复之前不发送",
        "平台答复后会自动恢复；若一直如此，请联系平台运营方",
    ),
    "journal-confirming": (
        "日志库可能是站点文件更改前的旧副本；平台答复之前不封存",
        "检查与消息服务器的连接；若一直如此，请联系平台运营方",
    ),
    "broker-away": (
        "与消息服务器 {broker} 断开已 {age}：{reason}",
        "检查网络、地址和证书；{kwh} kWh 在日志库中等待，不会丢失",
    ),
    "broker-refuses": (
        "消息服务器拒收我们的消息：{reason}",
        "0x10 表示平台尚未连接，连接后会自动重发；否则请服务器运营方允许本网关在自己的主题下发布",
    ),
    "platform-silent": (
        "平台尚未确认 {age} 前封存的数据（{batches} 个批次，{kwh} kWh 在等待）",
        "请问平台运营方是否收到本网关的数据；在此期间不会删除任何数据",
    ),
    "stick-waits": (
        "没有回执带回：{age} 前封存的数据仍在等待（{batches} 个批次，{kwh} kWh）",
        "执行 metering-agent courier export，把 U 盘送到平台，再用 courier ingest 读入回执；在此期间不会删除任何数据",
    ),
    "platform-forged": (
        "收到不真实的消息（启动以来 {rejected} 条）",
        "核对 acknowledgement_keys 与平台公钥，并查明谁能写入我们的主题",
    ),
    "clock-unknown": (
        "本网关的时间不可信",
        "为其设置时间服务器（timedatectl、chronyc sources）；电量准确，间隔会带标记",
    ),
    "clock-error": (
        "本网关的时间误差可能达 {seconds} 秒",
        "检查时间服务器是否可达（timedatectl、chronyc sources）",
    ),
    "certificate-ends": ("{role} 证书 {subject} 还有 {days} 天到期", "现在就向平台运营方申请新证书"),
    "certificate-ended": (
        "{role} 证书 {subject} 已到期",
        "向平台运营方申请新证书；在此之前批次在日志库中等待",
    ),
    "certificate-early": ("{role} 证书 {subject} 尚未生效", "检查本网关的时间"),
    "certificate-unreadable": ("{role} 证书 {subject}：{reason}", "修复该文件；否则无法重新连接消息服务器"),
    "key-rotation-due": (
        "签名密钥 {next} 将接替 {kid}",
        "无需操作：平台答复后，在随后的某个间隔自动完成",
    ),
    "key-rotation-sealed": (
        "签名密钥 {kid} 已接替 {next}；平台尚未确认",
        "在平台确认之前，不要改动 key_file 和 next_key_file",
    ),
    "key-rotation-done": (
        "签名密钥 {kid} 已生效，平台已知悉",
        "把 next_key_file 的文件写到 key_file，删去 next_key_file，然后重启",
    ),
    "key-rotation-over": (
        "next_key_file 指向已失效的密钥 {next}",
        "删去 next_key_file，然后重启",
    ),
    "web-closed": (
        "指标和健康检查无法在 {subject} 提供：{reason}",
        "查找占用该端口的程序（ss -ltnp），或在 [web] listen 中改用其他端口；计量不受影响",
    ),
    "apply-running": (
        "正在对 {subject} 执行修改",
        "请等待执行它的命令结束",
    ),
    "apply-unfinished": (
        "apply 被中断；{subject} 现为 {which} 内容（old 旧，new 新，edited 手工编辑过），尚无人确认一切正常",
        "再次执行该 apply 以继续，或回退：metering-agent apply --undo --site {subject}",
    ),
    "site-changed": (
        "站点文件 {subject} 在代理启动后被修改",
        "运行 metering-agent check，然后重启代理使修改生效",
    ),
}

LABELS: Mapping[str, str] = {
    "all well": "一切正常",
    "one problem": "有 1 处需要注意",
    "problems": "有 {count} 处需要注意",
    "more": "还有 {count} 处；加 --all 查看全部",
    "up": "已运行 {age}",
    "meters": "电表",
    "meters good": "{good} / {all} 正常",
    "intervals": "间隔",
    "interval": "每 {length} 一次，上次 {time}（{age} 前）",
    "no interval yet": "每 {length} 一次，尚未关闭",
    "lines": "线路",
    "line": "{answering}/{meters} 块电表，占用 {percent} %，扫描 {sweep}，失败 {failed}",
    "line down": "中断",
    "echoes": "；其适配器有回显，已被去除",
    "more lines": "还有 {count} 条线路",
    "journal": "日志库",
    "journal size": "{size} / {budget} MB，剩余 {free}",
    "batch": "批次 {seq}，链 {chain}",
    "no batch": "尚无批次",
    "backlog": "待确认",
    "no backlog": "无",
    "waiting": "{batches} 个批次，{kwh} kWh，最早 {age} 前",
    "platform": "平台",
    "connected": "{audience}，已连接 {age}",
    "by stick": "{audience}，用 U 盘传递；没有 broker",
    "away": "{audience}，已断开 {age}",
    "acknowledged": "已确认批次 {seq}，{age} 前",
    "not acknowledged": "尚无确认",
    "clock": "时钟",
    "clock S": "已同步，误差不超过 {err}",
    "clock H": "未同步（守时），误差不超过 {err}",
    "clock U": "不可信",
    "certificates": "证书",
    "certificate": "{role} 至 {date}（{days} 天）",
    "certificate unread": "{role} 不可读",
    "no certificates": "无（消息服务器在本机）",
    "key": "密钥",
    "unknown": "未知",
    "good": "正常",
    "waiting for": "等待",
    "silent": "无应答",
    "late": "迟到",
    "dark": "回路断电",
    "held": "暂不入账",
    "refused": "拒收",
    "identity": "表号不符",
    "suspect": "可疑",
    "line is down": "线路中断",
    "METER": "电表",
    "LINE": "线路",
    "ADDRESS": "地址",
    "QUALITY": "质量",
    "AGE": "时效",
    "REGISTER KWH": "止码 kWh",
    "POWER": "功率",
    "NOTE": "说明",
    "d": "天",
    "h": "小时",
    "min": "分",
    "s": "秒",
}

COURIER: Mapping[str, str] = {
    "exported": "{folder}：{batches} 个批次，{files} 个文件，其中新写 {written} 个。",
    "question": "平台与日志库对最后发送的内容说法不一：本次 U 盘只携带询问，得到答复后再携带批次。",
    "next": "现在可以拔出 U 盘。下一步：送到平台运营方，再带回此处，然后执行：",
    "nothing": "尚无内容",
    "taken": "已收妥：平台已有 {place} 及之前的全部内容",
    "stale": "已知的回执，或早于已知的回执；未作任何修改",
    "waiting": "代理正在等待自己所提询问的答复；请重新导出并送往平台",
    "asking": "平台所处的位置与本日志库不同（{place}）；请重新导出并送去，其中带有询问",
    "backwards": "平台退回到较早的位置（{place}），却未声明恢复过备份；请询问其运营方",
    "restored": "已收妥：在 {place} 之后开始新链；请重新导出并送往平台",
    "later": "现在无法保存：{reason}；请再试",
    "refused": "拒收（REFUSED）：{reason}",
}

EXCHANGE: Mapping[str, str] = {
    "ledger": "电表 {meter}（{place}）账上止码 {register_kwh} kWh，读于 {at}；表号 {serial}。",
    "no ledger": "电表 {meter}（{place}）从未读到。",
    "wire": "总线上现在显示 {register_kwh} kWh；表号 {serial}。",
    "no wire": "目前没有读数。",
    "unknown": "未知",
    "returned": "它在长时间无应答或更换地址后于 {returned} 恢复，无法证明自己的身份。",
    "order": "{noted} 由 {by} 登记：旧表止码 {last}，新表起码 {first}，新表号 {serial}。",
    "ask last": "1. 旧表显示屏的止码，kWh（无法读取则留空）",
    "ask mounted": "2. 拆下旧表，装上新表并设相同地址。完成后按回车",
    "ask first": "3. 新表显示屏的起码，kWh（无法读取则留空）",
    "ask serial": "4. 新表铭牌上的表号",
    "ask by": "5. 您的姓名（写入证据链）",
    "ask confirm": "以上是否正确？将在下一个边界执行，之后不能撤销",
    "noted": "已登记，尚未确认。确认：metering-agent exchange {meter} --yes；撤销：--undo",
    "confirmed": "已确认。在下一个读到该表的边界开始新计量段。",
    "witnessed": "代理已自行开始新计量段；显示屏读数作为证据加入链中。",
    "same": "已确认：{meter} 仍是原来的电表，将在下一个边界执行。",
    "undone": "已撤销，未执行任何操作。",
    "nothing-noted": "该电表没有登记内容；可能已执行，或从未登记",
    "nobody": "没有署名；请用 --by 给出姓名",
    "no-reading": "{text!r} 不是 kWh 读数，例如 1234.5",
    "never-read": "代理从未读到该电表，无从更换；请等第一次读数",
    "nothing-to-confirm": "该电表没有疑问",
    "another-serial": "电表表号为 {found}，账上为 {known}：不是同一块表；请不带 --same 使用 exchange",
    "old-serial": "电表仍显示旧表号 {serial}；请装上新表并设相同地址",
    "other-serial": "电表显示的表号是 {found}，不是 {said}；请再看铭牌，或检查地址",
    "serial-needed": "旧表号 {known} 已知，而新表号无法读取：请给出 --serial",
    "last-below": "{said} kWh 低于已入账的 {booked} kWh；请重读旧表显示屏（若电表计量二次侧，则读二次侧）",
    "last-beyond": "{said} kWh 超出自 {booked} kWh 入账以来回路可能的用电量（{most} kWh）；请重读旧表显示屏",
    "first-ahead": "显示屏 {said} kWh 大于总线上的 {wire} kWh；请重读新表显示屏",
}

BALANCE: Mapping[str, str] = {
    "title": "电量平衡，{from} 至 {to}",
    "nothing": "站点文件中没有电表有下级表（parent = ...），或该时段没有封存数据。",
    "node": "{meter}：输入 {inflow_kwh} kWh，下级表合计 {behind_kwh} kWh（{meters}）",
    "residual": "  差额 {residual_kwh} kWh{percent}；按准确度等级允许 {tolerance_kwh} kWh",
    "agrees": "  相符",
    "unmetered": "  未计量：没有电表的负荷，或线损",
    "impossible": "  不可能：下级表合计大于输入。检查这些电表的 CT 变比，以及它们是否都在 {meter} 之后",
    "incomplete": "  不完整，不作判断：{lacking} 没有封存数据",
    "assumed": "  {assumed} 按 {assumed_class} 级估计：请在站点文件中写入 accuracy_class",
    "holes": "  并非全部计量：{holes} 更换了计量段，其间的用电不在任何增量中",
    "elsewhere": "{meter} 位于另一网关的 {parent} 之后；由平台比较",
    "maps": "该时段内站点文件有修改；按时段末的接线比较。",
}
