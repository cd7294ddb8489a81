"use strict"

const os = require("node:os")
const { MutexError } = require("../../../index.js")
const connectionString = require("./connection-string.js")
const { keyOf } = require("./key.js")
const protection = require("./protection.js")

/*
 * From PostgreSQL's way to say where a database is to the URL of a mutex there.
 */

/** The environment variables that fill what a connection string leaves open. */
const VARIABLES = {
    host: "PGHOST", hostaddr: "PGHOSTADDR", port: "PGPORT", dbname: "PGDATABASE", user: "PGUSER", password: "PGPASSWORD",
    sslmode: "PGSSLMODE", sslrootcert: "PGSSLROOTCERT", sslcert: "PGSSLCERT", sslkey: "PGSSLKEY",
    connect_timeout: "PGCONNECT_TIMEOUT", application_name: "PGAPPNAME"
}

/** libpq's parameters that have no meaning for a lock, or whose meaning is fulfilled anyway. */
const WITHOUT_MEANING = new Set([
    "client_encoding", "fallback_application_name", "keepalives", "keepalives_count", "keepalives_idle",
    "keepalives_interval", "load_balance_hosts", "options", "target_session_attrs", "tcp_user_timeout"
])

/** What each `sslmode` is for a mutex, as node-postgres has it, whose users change their import to this; undefined: no encryption. */
const TLS = { disable: undefined, allow: "true", prefer: "true", require: "true", "verify-ca": "true", "verify-full": "true", "no-verify": "insecure" }
/** The same as libpq has it, which node-postgres knows as `uselibpqcompat=true`. */
const LIBPQ = { disable: undefined, allow: "prefer", prefer: "prefer", require: "insecure", "verify-ca": "verify-ca", "verify-full": "true" }
/** What `ssl` says in place of `sslmode`. */
const SSL = { true: "verify-full", 1: "verify-full", false: "disable", 0: "disable", "no-verify": "no-verify" }

/** libpq waits without limit when it is told to wait 0 seconds; an hour is the longest that a mutex accepts. */
const LONGEST = 3600

const invalid = (why) => new MutexError("ERR_INVALID_URL", `invalid connection string: ${why}`)

/**
 * Where a database is, and how to get in: what all its locks have in common.
 * @param {string} text a PostgreSQL connection string, see {@link connectionString.parse}
 * @returns {(lockName: string | [number, number]) => string} makes the URL of a lock's mutex
 * @throws {MutexError} ERR_INVALID_URL; no message quotes a password
 */
function database (text) {
    const given = connectionString.parse(text)
    if (given.ssl !== undefined && !Object.hasOwn(SSL, given.ssl))
        throw invalid(`ssl must be one of ${Object.keys(SSL).join(", ")}`)
    if (given.ssl !== undefined)
        given.sslmode ??= SSL[given.ssl]
    const isLibpq = given.uselibpqcompat === "true"
    delete given.ssl
    delete given.uselibpqcompat
    const known = { ...fromEnvironment(given), ...given }
    const user = known.user ?? os.userInfo().username
    const base = `rpm+pgsql://${userinfo(user, known.password)}@${hosts(known)}/${encodeURIComponent(known.dbname ?? user)}`
    const common = parameters(known, isLibpq ? LIBPQ : TLS)
    warnOfUnknown(known, common.tls)
    return (lockName) => {
        const query = new URLSearchParams({ pair: keyOf(lockName).join(","), ...common })
        return `${base}/${shownName(lockName)}?${query}`
    }
}

function warnOfUnknown (known, tls) {
    for (const [ name, value ] of Object.entries(known))
        if (!Object.hasOwn(VARIABLES, name) && !WITHOUT_MEANING.has(name) && !protection.isFulfilled(name, value, tls))
            process.emitWarning(`parameter "${name}" of a connection string is ignored`,
                { type: "MutexWarning", code: "IPC_MUTEX_UNKNOWN_PARAMETER" })
}

function fromEnvironment (given) {
    const found = {}
    for (const [ name, variable ] of Object.entries({ ...VARIABLES, ...protection.VARIABLES }))
        if (process.env[variable])
            found[name] = process.env[variable]
    // A host that is named is not meant to be reached by the address of another.
    if (given.host !== undefined)
        delete found.hostaddr
    return found
}

function userinfo (user, password) {
    return encodeURIComponent(user) + (password === undefined ? "" : `:${encodeURIComponent(password)}`)
}

function hosts ({ host, hostaddr, port = "" }) {
    const names = (host ?? hostaddr ?? "localhost").split(",")
    const ports = port.split(",")
    if (ports.length !== 1 && ports.length !== names.length)
        throw invalid(`${ports.length} ports for ${names.length} hosts`)
    return names.map((each, index) => {
        const number = ports.length === 1 ? ports[0] : ports[index]
        if (!/^\d*$/.test(number) || Number(number) > 65535 || (number !== "" && Number(number) === 0))
            throw invalid("a port must be a number from 1 to 65535")
        return written(each || "localhost") + (number && `:${number}`)
    }).join(",")
}

/** A name, an address or, if it begins with a slash, the folder of a Unix socket. */
function written (host) {
    if (host.startsWith("/"))
        return encodeURIComponent(host)
    return host.includes(":") ? `[${host}]` : host
}

function parameters ({ sslmode, sslrootcert, sslcert, sslkey, connect_timeout: seconds, application_name: application }, modes) {
    if (sslmode !== undefined && !Object.hasOwn(modes, sslmode))
        throw invalid(`sslmode must be one of ${Object.keys(modes).join(", ")}`)
    const hasFiles = sslrootcert !== undefined || sslcert !== undefined || sslkey !== undefined
    // Who asks for nothing gets what there is; who names certificates wants them used. A root certificate makes libpq's "require" verify.
    const mode = sslmode === "require" && sslrootcert !== undefined ? "verify-ca" : sslmode ?? (hasFiles ? "verify-full" : undefined)
    const tls = mode === undefined ? "prefer" : modes[mode]
    const query = {}
    if (tls !== undefined) {
        query.tls = tls
        if (sslrootcert !== undefined && sslrootcert !== "system")
            query.ca = sslrootcert
        if ((sslcert === undefined) !== (sslkey === undefined))
            throw invalid("give both sslcert and sslkey, or neither")
        if (sslcert !== undefined)
            Object.assign(query, { crt: sslcert, key: sslkey })
    }
    if (seconds !== undefined) {
        if (!/^-?\d+$/.test(seconds))
            throw invalid("connect_timeout must be a whole number of seconds")
        query.connect_timeout = Number(seconds) > 0 ? Math.min(Number(seconds), LONGEST) : LONGEST
    }
    if (application !== undefined)
        query.application_name = application
    return query
}

/** What messages call the lock. The path of a URL takes no more than printable characters, and not every number of them. */
function shownName (lockName) {
    const name = typeof lockName === "string" ? Buffer.from(lockName).toString() : lockName.join(",")
    return encodeURIComponent(name).slice(0, 200) || "-"
}

module.exports = { database }
