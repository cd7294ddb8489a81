"use strict"

// Holders, waiters and lengths of time, in words.

const UNITS = [ [ 86_400, "d" ], [ 3_600, "h" ], [ 60, "min" ], [ 1, "s" ] ]

/**
 * A length of time in its two largest units: `3 min 20 s`.
 * @param {number} milliseconds
 */
function span (milliseconds) {
    let left = Math.max(0, Math.floor(milliseconds / 1000))
    const parts = []
    for (const [ size, name ] of UNITS) {
        const amount = Math.floor(left / size)
        left -= amount * size
        if (amount > 0 || parts.length > 0 || name === "s")
            parts.push(`${amount} ${name}`)
    }
    const [ first, second ] = parts
    return second === undefined || second.startsWith("0 ") ? first : `${first} ${second}`
}

/** How long ago `date` was, by this machine's clock. */
const ago = (date) => span(new Date().getTime() - date.getTime())

/**
 * Who somebody is: `backup.sh (host db-7, pid 4711)`.
 * @param {import("../../index.js").LockInfo} info
 */
function whoIs ({ host, pid, label }) {
    const place = [ host === undefined ? "" : `host ${host}`, pid === undefined ? "" : `pid ${pid}` ].filter(Boolean).join(", ")
    if (label === undefined)
        return place || "somebody unknown"
    return place === "" ? label : `${label} (${place})`
}

/**
 * Who is in the way, in a phrase: `held for 3 min 20 s by backup.sh (host db-7, pid 4711)`.
 * @param {{ held: object[] }} snapshot
 */
function inTheWay ({ held }) {
    if (held.length === 0)
        return "about to be free"
    const [ { mode, since }, ...others ] = held
    const more = others.length === 0 ? "" : ` and ${others.length} more`
    return `held${mode === "shared" ? " shared" : ""}${since === undefined ? "" : ` for ${ago(since)}`} by ${whoIs(held[0])}${more}`
}

module.exports = { span, ago, whoIs, inTheWay }
