"""The sentences of `metering-agent apply`, in English and Chinese; `{subject}` is a meter, a line or a file."""

from collections.abc import Mapping

ENGLISH: Mapping[str, str] = {
    # what changes
    "changes": "This changes:",
    "meter-added": "meter {subject} is new: {place}, {profile}, for {steps}",
    "meter-removed": "meter {subject} goes; what was read of it stays",
    "meter-renamed": "meter {before} is called {subject} from now on",
    "meter-moved": "meter {subject} moves from {before} to {after}",
    "meter-line": "meter {subject} is reached otherwise: {after} (before: {before})",
    "meter-profile": "meter {subject} is read as {after} (before: {before}): a new epoch, if its register differs",
    "meter-ratio": "meter {subject} has {after} (before: {before}): a new epoch begins",
    "meter-serial": "meter {subject} has the serial number {after} (before: {before})",
    "meter-steps": "meter {subject} counts for {after} (before: {before}), from the cut on",
    "meter-other": "meter {subject}: {keys}",
    "line-added": "line {subject} is new: {place}",
    "line-removed": "line {subject} goes",
    "line-changed": "line {subject}: {keys}",
    "interval": "an interval lasts {after} (before: {before})",
    "platform": "platform: broker, certificates, login, keys or way of acknowledgement",
    "signing": "signing key: a key that was not rotated ends the chain until the platform knows it (config/KEYS.md)",
    "journal": "journal: its budget, or how long receipts are kept",
    "web": "web: the address of metrics and status",
    "catalogue": "catalogue of emission sources",
    "remarks": "nothing that the agent would do otherwise (remarks, order)",
    "ask": "Read the new and changed meters once, then let the agent take it over?",
    # the dry run
    "reading": "Reading new and changed meters, before anything is changed:",
    "read": "{subject}: {register_kwh} kWh, serial number {serial}",
    "unread": "{subject}: {problem}",
    # what is not well
    "no-interval": "no interval was closed yet",
    "no-agent": "no agent answers",
    "no-order": "the agent was not to be stopped: {reason}",
    "new-meter": "meter {subject}, which is new, is not in the ledger: {reason}",
    "meter": "meter {subject} was good and is not any more: {reason}",
    "broker-away": "the broker {subject} is not reached, the one before was: {reason}",
    "web-away": "metrics and status cannot be served at {subject}: {reason}",
    # where it stands
    "waiting": "The agent reads all meters, seals them under the old site file and starts with the new one.",
    "watching": "It runs with the new site file. Waiting until all is as well as before, {within} s at most.",
    "going-back": "Not as well as before; the old site file is put back:",
    "interrupted-old": "An earlier apply was interrupted; the old site file was in force, and is.",
    "resumed": "An earlier apply of this file was interrupted after the file was replaced; going on from there.",
    "interrupted": "Interrupted. The new site file lies there, nobody waits for its meters. Give the same command again"
    " to go on, or: metering-agent apply --undo --site {site}",
    # how it ends
    "unchanged": "The site file has this very text already; nothing to do.",
    "faulty": "Nothing was changed: the new site file has faults.",
    "planned": "Nothing was changed. To apply it without being asked: --yes",
    "not-read": "Nothing was changed: not every new or changed meter can be read."
    " To apply it all the same: --without-reading",
    "refused": "Nothing was changed: the agent itself could not start with it:",
    "applied": "Applied. All is as well as before; the former text is in {before}.",
    "applied-no-agent": "The site file is replaced; the former text is in {before}."
    " No agent runs: it takes the new one when it starts.",
    "rolled-back": "Rolled back: the agent runs with the old site file again. The journal was not touched.",
    "rolled-back-no-agent": "Rolled back: the old site file is there again, and no agent answers."
    " Start it: systemctl restart metering-agent, and look into its log. The journal was not touched.",
    "undone": "Undone: the old site file is in force again. The journal was not touched.",
    "undone-no-agent": "Undone: the old site file is there again, and no agent answers; it takes it when it starts.",
    "nothing-open": "No change is open. To go back to the text before: metering-agent apply {before} --site {site}",
    "open-new": "Another change is open: an earlier apply was interrupted after the file was replaced. First end it:"
    " metering-agent apply --undo --site {site}, or give that file again.",
    "open-other": "A change is open and the site file was edited since by hand. Put the right text there"
    " (the one before the change is {before}), restart the agent, then remove {record}.",
    "running-other": "The agent runs with another text of the site file than the one that is there, so there would be"
    " no way back. Restart it with what is there, or put its text back, then apply.",
}

CHINESE: Mapping[str, str] = {
    "changes": "将作以下修改：",
    "meter-added": "新增电表 {subject}：{place}，{profile}，计入 {steps}",
    "meter-removed": "移除电表 {subject}；已有读数保留",
    "meter-renamed": "电表 {before} 今后称为 {subject}",
    "meter-moved": "电表 {subject} 由 {before} 移至 {after}",
    "meter-line": "电表 {subject} 的接入方式改为 {after}（原为 {before}）",
    "meter-profile": "电表 {subject} 改按 {after} 读取，不再按 {before}；若寄存器不同则开始新计量段",
    "meter-ratio": "电表 {subject} 变比为 {after}（原为 {before}）：开始新计量段",
    "meter-serial": "电表 {subject} 的表号为 {after}（原为 {before}）",
    "meter-steps": "电表 {subject} 自切换起计入 {after}（原为 {before}）",
    "meter-other": "电表 {subject}：{keys}",
    "line-added": "新增线路 {subject}：{place}",
    "line-removed": "移除线路 {subject}",
    "line-changed": "线路 {subject}：{keys}",
    "interval": "间隔长度改为 {after}（原为 {before}）",
    "platform": "平台：代理服务器、证书、登录、密钥或确认方式",
    "signing": "签名密钥：未经轮换的密钥会使链中断，直到平台认识它（config/KEYS.md）",
    "journal": "日志库：容量预算或回执保存期",
    "web": "web：指标和状态的地址",
    "catalogue": "排放源目录",
    "remarks": "代理的行为没有变化（注释、顺序）",
    "ask": "先读一次新增和修改的电表，然后由代理接用新文件？",
    "reading": "在作任何修改之前读取新增和修改的电表：",
    "read": "{subject}：{register_kwh} kWh，表号 {serial}",
    "unread": "{subject}：{problem}",
    "no-interval": "尚未结束任何间隔",
    "no-agent": "没有代理应答",
    "no-order": "代理未能停止：{reason}",
    "new-meter": "新电表 {subject} 未入账：{reason}",
    "meter": "电表 {subject} 原为正常，现在不正常：{reason}",
    "broker-away": "无法连接代理服务器 {subject}，而原来的可以：{reason}",
    "web-away": "指标和状态无法在 {subject} 提供：{reason}",
    "waiting": "代理读取全部电表，按旧站点文件封存，然后以新文件启动。",
    "watching": "代理已使用新站点文件。等待一切恢复如前，最多 {within} 秒。",
    "going-back": "状态不如从前，恢复旧站点文件：",
    "interrupted-old": "先前的 apply 被中断；一直是旧站点文件有效。",
    "resumed": "先前对此文件的 apply 在替换文件之后被中断；由此继续。",
    "interrupted": "已中断。新站点文件已就位，无人等待其电表。再次执行同一命令以继续，或："
    "metering-agent apply --undo --site {site}",
    "unchanged": "站点文件已是这一内容，无需修改。",
    "faulty": "未作任何修改：新站点文件有错误。",
    "planned": "未作任何修改。不经询问直接执行：--yes",
    "not-read": "未作任何修改：并非每块新增或修改的电表都能读取。仍要执行：--without-reading",
    "refused": "未作任何修改：代理自身不能以此文件启动：",
    "applied": "已执行。一切如前正常；原内容保存在 {before}。",
    "applied-no-agent": "站点文件已替换；原内容保存在 {before}。没有代理在运行：启动时使用新文件。",
    "rolled-back": "已回退：代理重新使用旧站点文件。日志库未被改动。",
    "rolled-back-no-agent": "已回退：旧站点文件已恢复，但没有代理应答。请启动："
    "systemctl restart metering-agent，并查看日志。日志库未被改动。",
    "undone": "已撤销：旧站点文件重新有效。日志库未被改动。",
    "undone-no-agent": "已撤销：旧站点文件已恢复，没有代理应答；启动时使用它。",
    "nothing-open": "没有未完成的修改。要恢复先前内容：metering-agent apply {before} --site {site}",
    "open-new": "另有修改未完成：先前的 apply 在替换文件之后被中断。请先结束它："
    "metering-agent apply --undo --site {site}，或再次给出那个文件。",
    "open-other": "有修改未完成，而站点文件此后又被手工编辑。请放入正确内容（修改前的内容在 {before}），"
    "重启代理，然后删除 {record}。",
    "running-other": "代理使用的站点文件与现有文件内容不同，因此无法回退。"
    "请用现有文件重启代理，或恢复其内容，然后再执行 apply。",
}
