"use strict"

/**
 * What `query()` resolves to, from the addon's text.
 * @param {string} text JSON: `{ held: [...], pending: [...] }`, tokens as decimal text, times in milliseconds since 1970
 * @returns {{ held: object[], pending: object[] }}
 */
function parse (text) {
    const { held, pending } = JSON.parse(text)
    return { held: held.map(info), pending: pending.map(info) }
}

/**
 * @param {string} text JSON: `[ [ id, snapshot ], ... ]`
 * @returns {Array<[ id: string, seen: { held: object[], pending: object[] } ]>}
 */
const parseAll = (text) => JSON.parse(text).map(([ id, { held, pending } ]) => [ id, { held: held.map(info), pending: pending.map(info) } ])

function info (raw) {
    const known = { mode: raw.mode }
    if (raw.token !== undefined)
        known.token = BigInt(raw.token)
    for (const name of [ "host", "pid", "thread", "label" ])
        if (raw[name] !== undefined)
            known[name] = raw[name]
    if (raw.since !== undefined)
        known.since = new Date(raw.since)
    return known
}

module.exports = { parse, parseAll }
