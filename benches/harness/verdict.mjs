// Compares what was measured with what was wanted.
import { ratio } from "./rounds.mjs"

/**
 * A row of the table.
 *
 * A metric is `{ key, title, unit, better: "lower" | "higher", goals }`, its goals any of
 * `{ floor: ratio }` (of ours to the floor: at most if lower is better, else at least), `{ peers: true }` (better than the
 * best of them), `{ limit: value }` (of ours itself).
 */
export function judge (metric, results) {
    const of = (role) => results.filter(({ contender, metrics }) => contender.role === role && metrics[metric.key] !== undefined)
        .map(({ contender, metrics }) => ({ label: contender.label, ...metrics[metric.key] }))
    const [ ours ] = of("ours"), [ floor ] = of("floor"), peers = of("peer")
    const better = (one, other) => metric.better === "lower" ? one < other : one > other
    const bestPeer = peers.reduce((best, peer) => best === undefined || better(peer.median, best.median) ? peer : best, undefined)
    const toFloor = floor && ratio(ours, floor), toPeer = bestPeer && ratio(ours, bestPeer)
    const { goals = {} } = metric
    const checks = []
    if (goals.floor !== undefined)
        checks.push(!better(goals.floor, toFloor))
    if (goals.peers && bestPeer)
        checks.push(better(toPeer, 1))
    if (goals.limit !== undefined)
        checks.push(!better(goals.limit, ours.median))
    return {
        metric, ours, floor, bestPeer, peers, toFloor, toPeer,
        met: checks.length === 0 ? undefined : checks.every(Boolean)
    }
}

/** The goals of a metric in words. */
export function goalsInWords ({ better, goals = {}, unit }) {
    const atLeast = better === "lower" ? "<=" : ">="
    return [
        ...(goals.floor === undefined ? [] : [ `${atLeast} ${goals.floor} floor` ]),
        ...(goals.peers ? [ "ahead of peers" ] : []),
        ...(goals.limit === undefined ? [] : [ `${atLeast} ${display(goals.limit, unit)}` ])
    ].join(", ")
}

/** A value with its unit, to three figures. */
export function display (value, unit) {
    const figures = (number) => number >= 1000 ? Math.round(number).toString() : Number(number.toPrecision(3)).toString()
    switch (unit) {
        case "ns":
            return value < 1e3 ? `${figures(value)} ns` : value < 1e6 ? `${figures(value / 1e3)} us` : `${figures(value / 1e6)} ms`
        case "/s":
            return value >= 1e6 ? `${figures(value / 1e6)} M/s` : value >= 1e3 ? `${figures(value / 1e3)} k/s` : `${figures(value)} /s`
        case "bytes":
            return Math.abs(value) >= 1e6 ? `${figures(value / 1e6)} MB` : value >= 1e3 ? `${figures(value / 1e3)} kB` : `${figures(value)} B`
        case "":
            return figures(value)
        default:
            return `${figures(value)} ${unit}`
    }
}
