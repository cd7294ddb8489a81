"use strict"

const native = require("./native.js")
const { wrongType } = require("./settings.js")

/*
 * Functions of the program that say user and password for each new connection to a server. The addon's own thread connects; it asks by the
 * number of the function.
 */

/** The longest user or password, in bytes. No server takes more, and some clients would compute for minutes. */
const LONGEST = 65_535

/** Function to `{ number, mutexes }`, and back, while mutexes with it are open. */
const entries = new Map(), functions = new Map()
let last = 0

/** One more mutex with this function. @param {Function | undefined} provide @returns {number} its number; 0 for none */
function enter (provide) {
    if (provide === undefined)
        return 0
    let entry = entries.get(provide)
    if (entry === undefined) {
        entries.set(provide, entry = { number: ++last, mutexes: 0 })
        functions.set(entry.number, provide)
    }
    entry.mutexes++
    return entry.number
}

/** One mutex less. */
function leave (number) {
    const provide = functions.get(number)
    const entry = entries.get(provide)
    if (entry !== undefined && --entry.mutexes === 0) {
        entries.delete(provide)
        functions.delete(number)
    }
}

/** The addon asks. The function is called in a microtask of its own, behind all that came together with the question. */
async function asked (number, question) {
    try {
        const provide = await functions.get(number)
        const given = await provide()
        if (given === null || typeof given !== "object")
            throw wrongType("the result of credentials", "an object", given)
        const { user, password } = given
        check("user", user)
        check("password", password)
        native.remoteCredentials(question, user, password)
    }
    catch (error) {
        native.remoteCredentials(question, undefined, undefined, messageOf(error))
    }
}

function check (name, text) {
    if (text === undefined)
        return
    if (typeof text !== "string")
        throw wrongType(name, "a string", text)
    if (text.includes("\0") || Buffer.byteLength(text) > LONGEST)
        throw new RangeError(`"${name}" must have at most ${LONGEST} bytes, and no NUL`)
}

/** What was thrown may be anything. */
function messageOf (error) {
    try {
        return String(error?.message ?? error)
    }
    catch {
        return "what it threw has no message"
    }
}

module.exports = { enter, leave, asked }
