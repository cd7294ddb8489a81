"use strict"

const { MutexError } = require("../errors.js")
const { canSteal, parse, schemeOf } = require("../models/index.js")
const { idOf } = require("./names.js")

/** The longest URL that is accepted, as in `src/url.rs`. */
const LONGEST = 4096

/** A URL of a manager: everything that names the coordinator, the empty place of an id, and the query. */
const LOCAL = /^((?:spm|mpm|lpm):)(\?[^#]*)?$/
const REMOTE = /^(rpm\+[a-z]+:\/\/[^/?#]*)(\/[^?#]*)?(\?[^#]*)?(?:#.*)?$/
/** What may stand before an id. */
const DATABASE = /^\/[^/]+\/$/
/** PostgreSQL: one key for whatever name. */
const PAIR = /[?&]pair=/

/** Where a manager's locks are: a URL without an id. */
class Place {
    #before
    #after

    /**
     * @param {unknown} text
     * @throws {MutexError} ERR_INVALID_URL
     */
    constructor (text) {
        const found = typeof text === "string" ? LOCAL.exec(text) ?? REMOTE.exec(text) : null
        if (found === null)
            // Says what is wrong, unless it is a mutex's.
            throw parse(text) && withId()
        const isRemote = found.length === 4
        const [ , before, path = "/" ] = found
        if (isRemote && path !== "/" && !(before.startsWith("rpm+pgsql:") && DATABASE.test(path)))
            throw withId()
        const query = (isRemote ? found[3] : found[2]) ?? ""
        if (PAIR.test(query))
            throw new MutexError("ERR_INVALID_URL", "a lock manager's URL takes no \"pair\": each of its locks has a key of its own")
        this.#before = isRemote ? before + path : before
        this.#after  = query
        this.isPgsql = before.startsWith("rpm+pgsql:")
        this.scheme  = schemeOf(before)
        this.canSteal = canSteal(before)
        this.model   = parse(this.urlOf("x")).model
    }

    /**
     * @param {string} id
     * @returns {string} the URL of a mutex with this id
     */
    urlOf (id) {
        return this.#before + id + this.#after
    }

    /**
     * @param {string} name
     * @returns {{ id: string, url: string }} of the lock with this name
     * @throws {MutexError} ERR_INVALID_URL
     */
    lockOf (name) {
        const id = idOf(name)
        const url = this.urlOf(id)
        if (url.length > LONGEST)
            throw new MutexError("ERR_INVALID_URL", `name too long: with it the lock's URL has ${url.length} bytes, at most ${LONGEST} are accepted`)
        return { id, url }
    }
}

const withId = () => new MutexError("ERR_INVALID_URL",
    "a lock manager's URL has no id, as in \"spm:\", \"lpm:\", \"rpm+redis://localhost/\" or \"rpm+pgsql://localhost/<database>/\": names are given to its methods")

module.exports = { Place }
