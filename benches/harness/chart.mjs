// One SVG for each group: a row of bars for each metric, made of shapes and text only, on no background of its own.
import { display } from "./verdict.mjs"

const WIDTH = 860, LEFT = 190, RIGHT = 130, BAR = 16, GAP = 5, HEAD = 44
const COLORS = { ours: "#2f81f7", floor: "#8b949e", peer: "#d29922" }
/** A grey that can be read on white and on black. */
const TEXT = "#768390"
/** From which range on a linear scale would hide the smaller bars. */
const WIDE = 12

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("\"", "&quot;")

/**
 * @param {string} title
 * @param {{ scenario: object, results: object[] }[]} measured
 */
export function chart (title, measured) {
    const parts = []
    let y = 30
    for (const { scenario, results } of measured)
        for (const metric of scenario.metrics.filter(({ draw }) => draw !== false)) {
            const block = blockOf(scenario, metric, results, y)
            parts.push(block.text)
            y = block.end
        }
    const height = y + 10
    return [
        `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escape(title)}">`,
        `<style>text{font:12px system-ui,sans-serif;fill:${TEXT}}.head{font-weight:600;font-size:13px}.ours{font-weight:600;fill:${COLORS.ours}}</style>`,
        `<text x="8" y="18" class="head" style="font-size:15px">${escape(title)}</text>`,
        ...parts,
        "</svg>\n"
    ].join("\n")
}

function blockOf (scenario, metric, results, top) {
    const bars = results.filter(({ metrics }) => metrics[metric.key] !== undefined)
        .map(({ contender, metrics }) => ({ contender, ...metrics[metric.key] }))
    if (bars.length === 0)
        return { text: "", end: top }
    const largest = Math.max(...bars.map(({ high }) => high))
    const smallest = Math.max(Math.min(...bars.map(({ median }) => median)), largest / 1e6)
    const logarithmic = largest / smallest > WIDE
    const room = WIDTH - LEFT - RIGHT
    const least = smallest / 2
    const length = (value) => Math.max(2, room * (logarithmic ? Math.log(Math.max(value, least) / least) / Math.log(largest / least) : value / largest))
    const order = metric.better === "lower" ? "less is better" : "more is better"
    const heading = [ scenario.title, metric.title ].filter(Boolean).join(", ")
    const scale = `(${order}${logarithmic ? ", logarithmic" : ""})`
    const lines = [ `<text x="8" y="${top + 24}" class="head">${escape(heading)} <tspan font-weight="400">${scale}</tspan></text>` ]
    let y = top + HEAD - 8
    for (const { contender, median, low, high } of bars) {
        const color = COLORS[contender.role], middle = y + BAR - 4
        const kind = contender.role === "ours" ? " class=\"ours\"" : ""
        lines.push(
            `<text x="${LEFT - 8}" y="${middle}" text-anchor="end"${kind}>${escape(contender.label)}</text>`,
            `<rect x="${LEFT}" y="${y}" width="${length(median).toFixed(1)}" height="${BAR}" rx="2" fill="${color}"/>`)
        if (high > low)
            lines.push(`<path d="M${(LEFT + length(low)).toFixed(1)} ${y + BAR / 2}H${(LEFT + length(high)).toFixed(1)}" stroke="${TEXT}" stroke-width="2"/>`)
        lines.push(`<text x="${(LEFT + length(high) + 8).toFixed(1)}" y="${middle}"${kind}>${escape(display(median, metric.unit))}</text>`)
        y += BAR + GAP
    }
    return { text: lines.join("\n"), end: y }
}
