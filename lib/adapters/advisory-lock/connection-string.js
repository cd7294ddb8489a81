"use strict"

const { MutexError } = require("../../../index.js")

/*
 * The two forms of a connection string, as PostgreSQL's documentation describes them (libpq, "Connection Strings"):
 * `postgresql://user:password@host:port,host:port/dbname?name=value` and `name=value name='a value'`. Messages never quote
 * a value, which may be a password.
 */

const URI = /^(?:postgres(?:ql)?|pg):\/\//

/**
 * What a connection string says, by the names that libpq gives the parameters. Several hosts and ports are joined by commas.
 * @param {string} [text] without it, the environment says everything
 * @returns {Record<string, string>}
 * @throws {MutexError} ERR_INVALID_URL
 */
function parse (text = "") {
    if (typeof text !== "string") {
        const error = new TypeError(`a connection string must be a string, not ${text === null ? "null" : typeof text}`)
        error.code = "ERR_INVALID_ARG_TYPE"
        throw error
    }
    if (text.includes("\0"))
        throw invalid("it contains a NUL character")
    // As of a file with a line end.
    text = text.trim()
    return URI.test(text) ? fromUri(text.replace(URI, "")) : fromPairs(text)
}

const invalid = (why) => new MutexError("ERR_INVALID_URL", `invalid connection string: ${why}`)

function fromUri (rest) {
    const found = {}
    const [ hierarchy, query ] = cut(rest, rest.indexOf("?"))
    const [ authority, database ] = cut(hierarchy, hierarchy.indexOf("/"))
    const at = authority.lastIndexOf("@")
    if (at >= 0) {
        const user = authority.slice(0, at)
        const [ name, password ] = cut(user, user.indexOf(":"))
        set(found, "user", decode(name, "the user"))
        set(found, "password", decode(password, "the password"))
    }
    const hosts = authority.slice(at + 1)
    if (hosts !== "") {
        const split = hosts.split(",").map(hostAndPort)
        set(found, "host", split.map(({ host }) => host).join(","))
        if (split.some(({ port }) => port !== ""))
            set(found, "port", split.map(({ port }) => port).join(","))
    }
    set(found, "dbname", decode(database, "the database"))
    for (const part of query.split("&").filter(Boolean)) {
        const equals = part.indexOf("=")
        if (equals < 1)
            throw invalid("a parameter has no name or no value")
        const name = decode(part.slice(0, equals), "a parameter's name")
        set(found, name, decode(part.slice(equals + 1), `parameter ${name}`))
    }
    return found
}

/** What stands before the character at `index`, and behind it. */
function cut (text, index) {
    return index < 0 ? [ text, "" ] : [ text.slice(0, index), text.slice(index + 1) ]
}

function hostAndPort (text) {
    const parts = /^(\[[^\]]*\]|[^:[\]]*)(?::(\d*))?$/.exec(text)
    if (parts === null)
        throw invalid("expected a host name, an IPv4 address or an IPv6 address in brackets, then \":\" and a port number " +
            "(in user and password, write \"@\", \":\", \"/\", \"?\" and \"%\" percent-encoded)")
    return { host: decode(parts[1].replace(/^\[|\]$/g, ""), "the host"), port: parts[2] ?? "" }
}

function decode (text, what) {
    try {
        // As node-postgres does: a percent sign that encodes nothing stands for itself.
        return decodeURIComponent(text.replace(/%(?![0-9a-f]{2})/gi, "%25"))
    }
    catch {
        throw invalid(`${what} is not percent-encoded UTF-8`)
    }
}

/** `name = value` pairs; a value with spaces stands in single quotes, a backslash takes the next character as it is. */
function fromPairs (text) {
    const found = {}
    const pair = /\s*([A-Za-z_]\w*)\s*=\s*(?:'((?:[^'\\]|\\[^])*)'(?!\S)|((?:[^\s'\\]|\\[^])(?:[^\s\\]|\\[^])*)?)(?:\s+|$)/y
    while (pair.lastIndex < text.length && text.slice(pair.lastIndex).trim() !== "") {
        const parts = pair.exec(text)
        if (parts === null)
            throw invalid("expected postgres://... or pairs such as host=localhost dbname=app password='with spaces'")
        set(found, parts[1], (parts[2] ?? parts[3] ?? "").replace(/\\([^])/g, "$1"))
    }
    return found
}

/** What is empty counts as not given, as everywhere in libpq. */
function set (found, name, value) {
    if (value !== "")
        found[name] = value
}

module.exports = { parse }
