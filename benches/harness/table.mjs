// The printed table.
import { display, goalsInWords } from "./verdict.mjs"

const HEAD = [ "scenario", "", "ours (spread)", "floor", "best peer", "to floor", "to peer", "wanted", "" ]

/** One line of cells for each metric of a scenario. */
export function cells (scenario, rows) {
    return rows.map(({ metric, ours, floor, bestPeer, toFloor, toPeer, met }, at) => {
        const { unit } = metric
        return [
            at === 0 ? scenario.title : "",
            metric.title,
            ours.rounds.length === 1 ? display(ours.median, unit)
                : `${display(ours.median, unit)} (${display(ours.low, unit)} - ${display(ours.high, unit)})`,
            floor ? display(floor.median, unit) : "",
            bestPeer ? `${display(bestPeer.median, unit)} ${bestPeer.label}` : "",
            toFloor === undefined ? "" : toFloor.toFixed(2),
            toPeer === undefined || !Number.isFinite(toPeer) ? "" : toPeer.toFixed(toPeer < 0.1 ? 4 : 2),
            goalsInWords(metric),
            met === undefined ? "" : met ? "met" : "MISSED"
        ]
    })
}

/** Text with aligned columns. */
export function table (lines, head = HEAD) {
    const all = [ head, ...lines ]
    const widths = head.map((_, column) => Math.max(...all.map((line) => line[column].length)))
    return all.map((line) => line.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd()).join("\n")
}

/** The same for Markdown. */
export function markdown (lines, head = HEAD) {
    const row = (line) => `| ${line.join(" | ")} |`
    return [ row(head), row(head.map(() => "---")), ...lines.map(row) ].join("\n")
}
