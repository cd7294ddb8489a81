"use strict"

const { createHash } = require("node:crypto")
const { wrongType } = require("../settings.js")

/** The namespace of URLs for UUIDs. */
const NAMESPACE = Buffer.from("6ba7b8119dad11d180b400c04fd430c8", "hex")

/** The key of a lock of PostgreSQL, see `src/backend/pgsql/key.rs`: with 32 bits, two names may share one. */
function pgsqlKey (id) {
    const uuid = createHash("sha1").update(NAMESPACE).update(id).digest().subarray(0, 16)
    uuid[6] = uuid[6] & 0x0f | 0x50
    uuid[8] = uuid[8] & 0x3f | 0x80
    let key = 0
    for (let at = 0; at < 16; at += 4)
        key ^= uuid.readInt32BE(at)
    return key >>> 0
}

/**
 * In which order the locks of several names are taken. It is the same for all processes, whatever they name besides, so no two of them wait
 * for each other; and no lock comes twice.
 * @param {unknown[]} names
 * @param {import("./place.js").Place} place
 * @returns {Array<string[]>} for each lock its names: one, but for chance on PostgreSQL
 */
function inOrder (names, place) {
    const locks = new Map()
    for (const name of new Set(names)) {
        if (typeof name !== "string")
            throw wrongType("name", "a string or an array of strings", name)
        const { id } = place.lockOf(name)
        const key = place.isPgsql ? pgsqlKey(id) : id
        if (locks.has(key))
            locks.get(key).push(name)
        else
            locks.set(key, [ name ])
    }
    if (locks.size === 0) {
        const error = new TypeError("an array of names must not be empty")
        error.code = "ERR_INVALID_ARG_VALUE"
        throw error
    }
    // Ids are ASCII, so this is the order of their bytes.
    return [ ...locks ].sort(([ one ], [ other ]) => one < other ? -1 : 1).map(([ , same ]) => same)
}

module.exports = { inOrder, pgsqlKey }
