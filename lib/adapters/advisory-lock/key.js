"use strict"

const { createHash } = require("node:crypto")

const isInteger32 = (value) => Number.isInteger(value) && value === (value | 0)

/**
 * The two integers by which PostgreSQL knows a lock of this name: the first and the second four bytes of the name's
 * SHA-256, read as signed little-endian numbers, as the package advisory-lock has it.
 * @param {string} name
 * @returns {[number, number]}
 */
function strToKey (name) {
    const hash = createHash("sha256").update(name, "utf8").digest()
    return [ hash.readInt32LE(0), hash.readInt32LE(4) ]
}

/**
 * The key of a lock that is named by a text or by the two integers themselves.
 * @param {string | [number, number]} lockName
 * @returns {[number, number]}
 * @throws {TypeError} if it is neither
 */
function keyOf (lockName) {
    if (typeof lockName === "string")
        return strToKey(lockName)
    if (Array.isArray(lockName) && lockName.length === 2 && lockName.every(isInteger32))
        return [ lockName[0], lockName[1] ]
    const error = new TypeError("the name of an advisory lock must be a string or a pair of signed 32-bit integers")
    error.code = "ERR_INVALID_ARG_TYPE"
    throw error
}

module.exports = { strToKey, keyOf }
