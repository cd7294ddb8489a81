"use strict"

const { ago } = require("./words.js")
const { oneLine } = require("./say.js")

/**
 * Holders and waiters of a lock as one line of JSON, tokens as texts of digits and times in ISO 8601. What is not known is
 * absent.
 * @param {string} id
 * @param {{ held: object[], pending: object[] }} snapshot
 */
function json (id, { held, pending }) {
    const plain = (key, value) => typeof value === "bigint" ? String(value) : value
    return `${JSON.stringify({ id, held, pending }, plain)}\n`
}

const COLUMNS = [
    [ "", ({ role }) => role ],
    [ "MODE", ({ mode }) => mode ],
    [ "FOR", ({ since }) => since && ago(since) ],
    [ "HOST", ({ host }) => host ],
    [ "PID", ({ pid }) => pid ],
    [ "THREAD", ({ thread }) => thread ],
    [ "LABEL", ({ label }) => label ],
    [ "TOKEN", ({ token }) => token ]
]

/** The same for people; columns of which nothing is known are left out. */
function table (id, { held, pending }) {
    const title = `lock "${id}" is ${held.length === 0 ? "free" : "held"}${pending.length === 0 ? "" : `, ${pending.length} waiting`}\n`
    const people = [
        ...held.map((info) => ({ role: "holder", ...info })),
        ...pending.map((info, index) => ({ role: `waiter ${index + 1}`, ...info }))
    ]
    if (people.length === 0)
        return title
    const columns = COLUMNS
        .map(([ name, value ]) => [ name, ...people.map((info) => oneLine(String(value(info) ?? ""))) ])
        .filter(([ , ...cells ]) => cells.some(Boolean))
    const widths = columns.map((cells) => Math.max(...cells.map((cell) => cell.length)))
    const rows = columns[0].map((_, row) => columns.map((cells, column) => cells[row].padEnd(widths[column])).join("  ").trimEnd())
    return `${title}${rows.map((row) => `${row}\n`).join("")}`
}

module.exports = { json, table }
