"use strict"

const { MutexError } = require("../../../index.js")

/*
 * What a connection string asks of TLS and authentication beyond `sslmode` and the certificate files. A lock must not go on with less protection
 * than it was told to, so a parameter is an error unless its value asks for nothing, or for what is so anyway.
 */

/** Names that speak of protection. */
const ABOUT = /ssl|tls|cert|auth|pass|gss|krb|channel_?binding|peer|verif|secur|token|secret/i

/** The values that need nothing done. TLS is 1.2 or newer here. */
const FULFILLED = {
    channel_binding: /^(?:disable|prefer)$/,
    gssdelegation: /^0$/,
    gssencmode: /^(?:disable|allow|prefer)$/,
    gsslib: /^/,
    krbsrvname: /^/,
    requiressl: /^0$/,
    sslcertmode: /^(?:disable|allow)$/,
    sslcompression: /^/,
    sslnegotiation: /^postgres$/,
    sslsni: /^/,
    ssl_max_protocol_version: /^/,
    ssl_min_protocol_version: /^TLSv1(?:\.[12])?$/
}

/** The environment variables with such parameters. */
const VARIABLES = {
    channel_binding: "PGCHANNELBINDING", gssencmode: "PGGSSENCMODE", require_auth: "PGREQUIREAUTH", requirepeer: "PGREQUIREPEER",
    sslcertmode: "PGSSLCERTMODE", sslcrl: "PGSSLCRL", sslcrldir: "PGSSLCRLDIR", sslnegotiation: "PGSSLNEGOTIATION",
    ssl_min_protocol_version: "PGSSLMINPROTOCOLVERSION"
}

/**
 * @param {string} name of a parameter that is not one of ours
 * @param {string} value
 * @param {string | undefined} tls what the connection will have, as in a mutex URL
 * @returns {boolean} whether it is about protection, and there is enough
 * @throws {MutexError} ERR_INVALID_URL if there is not enough
 */
function isFulfilled (name, value, tls) {
    if (!ABOUT.test(name))
        return false
    // A verified certificate keeps out whoever stands in the middle, which is what channel binding is for.
    if (FULFILLED[name]?.test(value) || (name === "channel_binding" && value === "require" && tls === "true"))
        return true
    // Another name may be the rest of a password that was not percent-encoded.
    const what = /^[\w.-]{1,40}$/.test(name) ? `parameter "${name}"` : "a parameter"
    const how = name === "channel_binding" ? "needs sslmode=verify-full" : "about TLS or authentication is not supported with this value"
    throw new MutexError("ERR_INVALID_URL", `invalid connection string: ${what} ${how}`)
}

module.exports = { VARIABLES, isFulfilled }
