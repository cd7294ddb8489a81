"use strict"

/** How many names that nobody uses at the moment stay open, for the next to use them. */
const SPARE = 256

const ignore = () => {}
const resolved = Promise.resolve()

/**
 * The sessions of a manager's names. There is one for each name that is used, and for the last ones that were; opening and closing them costs the
 * coordinator nothing, so a name that was used once leaves nothing behind.
 */
class Sessions {
    #create
    /** By name. */
    #all = new Map()
    /** Those that nobody uses, longest unused first. */
    #spare = new Set()
    /** What closes of them. */
    #closing = new Set()
    #isTrimming = false

    /** @param {(name: string, idle: () => void) => import("../session.js").Session} create opens one; it calls `idle` whenever its last user is gone */
    constructor (create) {
        this.#create = create
    }

    /**
     * @param {string} name
     * @returns {import("../session.js").Session} for a request that is made now
     */
    of (name) {
        let session = this.#all.get(name)
        if (session === undefined) {
            session = this.#create(name, () => { this.#rest(session) })
            this.#all.set(name, session)
        }
        else
            this.#spare.delete(session)
        return session
    }

    /** @returns {import("../session.js").Session | undefined} of a name that is used, or was of late */
    find (name) {
        return this.#all.get(name)
    }

    [Symbol.iterator] () {
        return this.#all.values()
    }

    #rest (session) {
        if (!session.isOpen)
            return
        this.#spare.add(session)
        if (this.#spare.size > SPARE && !this.#isTrimming) {
            this.#isTrimming = true
            // Not within another session's step.
            resolved.then(() => { this.#trim() })
        }
    }

    #trim () {
        this.#isTrimming = false
        for (const session of this.#spare) {
            if (this.#spare.size <= SPARE)
                return
            this.#close(session).catch(ignore)
        }
    }

    #close (session) {
        this.#spare.delete(session)
        this.#all.delete(session.name)
        const closing = session.close()
        this.#closing.add(closing)
        const over = () => { this.#closing.delete(closing) }
        closing.then(over, over)
        return closing
    }

    /** Withdraws all that is asked, and releases all that is held. */
    async close () {
        for (const session of [ ...this.#all.values() ])
            this.#close(session)
        const results = await Promise.allSettled(this.#closing)
        const failed = results.find(({ status }) => status === "rejected")
        if (failed !== undefined)
            throw failed.reason
    }
}

module.exports = { Sessions }
