"use strict"

/*
 * Names of locks and their ids, one to one. An id is what stands in the URL of a `Mutex`: printable ASCII in which "%" begins an escape. So a name
 * that can stand there as it is names the same lock as a `Mutex` of that id, and two names never have the same id.
 */

/** Names that are their own ids: what the WHATWG URL parser leaves as it is in a path segment, without "%" and "^". */
const PLAIN = /^[!$&'()*+,\-.0-9:;=@A-Z[\\\]_a-z|~]+$/
/** The characters of a name that its id escapes; a surrogate pair is one character. */
const SPECIAL = /[^!$&'()*+,\-.0-9:;=@A-Z[\\\]_a-z|~]/gu
/** What a URL's path drops, and so would not be part of an id. */
const DOTS = /^\.\.?$/
/** The id of the empty name: no escape, so no other name's. */
const EMPTY = "%"

const escaped = (byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`

/** The escapes of one character; UTF-8, in which a lone surrogate is written like any other character of the plane. */
function escape (character) {
    const code = character.codePointAt(0)
    if (code < 0x80)
        return escaped(code)
    const rest = []
    let left = code
    // Six bits in each byte that follows the first one, which has the less room for bits the more follow.
    for (let room = 0x40; left >= room; room = room === 0x40 ? 0x20 : room >> 1) {
        rest.unshift(escaped(0x80 | left & 0x3f))
        left >>= 6
    }
    const first = rest.length === 1 ? 0xc0 : rest.length === 2 ? 0xe0 : 0xf0
    return escaped(first | left) + rest.join("")
}

/**
 * @param {string} name
 * @returns {string} the id of the lock with this name
 */
function idOf (name) {
    if (DOTS.test(name))
        return name.replaceAll(".", "%2E")
    if (PLAIN.test(name))
        return name
    return name === "" ? EMPTY : name.replace(SPECIAL, escape)
}

/**
 * @param {string} id of any lock, also of one that got it from a URL
 * @returns {string} the name with this id; the id itself if no name has it
 */
function nameOf (id) {
    if (id === EMPTY)
        return ""
    const name = id.replace(/(?:%[0-9A-F]{2})+/g, unescape)
    return idOf(name) === id ? name : id
}

function unescape (escapes) {
    const bytes = Buffer.from(escapes.replaceAll("%", ""), "hex")
    const text = bytes.toString("utf8")
    return text.includes("\ufffd") ? surrogates(bytes) : text
}

/** Text with lone surrogates in it, which a UTF-8 decoder refuses. */
function surrogates (bytes) {
    let text = ""
    for (let at = 0; at < bytes.length;) {
        const first = bytes[at]
        const length = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
        const isSurrogate = first === 0xed && bytes[at + 1] >= 0xa0
        text += isSurrogate
            ? String.fromCharCode(0xd000 | (bytes[at + 1] & 0x3f) << 6 | bytes[at + 2] & 0x3f)
            : bytes.subarray(at, at + length).toString("utf8")
        at += length
    }
    return text
}

module.exports = { idOf, nameOf }
