"use strict"

const { Pool } = require("./pool.js")
const { Stack } = require("./stack.js")
const { guarded } = require("./guarded.js")
const { keyOf, strToKey } = require("./key.js")
const { database } = require("./url.js")

/**
 * What the package advisory-lock does, in the shape of its version 1. See index.d.ts.
 * @param {string} connectionString
 * @returns {(lockName: string | [number, number]) => object}
 */
function advisoryLock (connectionString) {
    const url = database(connectionString)
    /** By the lock's key. All that one call of `advisoryLock` gives out is one session, as it is one connection in the original. */
    const session = new Map()
    const create = (lockName) => {
        const key = keyOf(lockName).join()
        let mutex = session.get(key)
        if (mutex === undefined)
            session.set(key, mutex = createMutex(new Pool(url(lockName))))
        return mutex.functions
    }
    create.client = {
        /** Gives back all locks, as the end of the session does. */
        async end () {
            await Promise.all([ ...session.values() ].map((mutex) => mutex.end()))
        }
    }
    return create
}

/**
 * The functions of one mutex object. They share their holds as the statements of one PostgreSQL session do.
 * @param {Pool} pool
 */
function createMutex (pool) {
    /** The error that ended a hold, until a call has been told. */
    let loss
    /** How many of the exclusive hold's takings are shared ones: who excludes all others needs no shared lock beside. */
    let covered = 0
    const lost = (hold, error) => {
        loss = error
        hold.ontold = (told) => {
            if (told === loss)
                loss = undefined
        }
    }
    const exclusive = new Stack(pool, false, (hold, error) => {
        lost(hold, error)
        covered = 0
    })
    const shared = new Stack(pool, true, lost)

    /** Each call begins so: the first one after a loss hears of it. */
    function begin () {
        const error = loss
        loss = undefined
        if (error !== undefined)
            throw error
    }

    async function enterShared (wait) {
        if (exclusive.hold === null)
            return shared.enter(wait)
        covered++
        return exclusive.enter(wait)
    }

    async function leaveShared (hold = shared.hold ?? exclusive.hold) {
        if (hold === null || hold !== exclusive.hold)
            return shared.leave(hold)
        if (covered === 0)
            return false
        covered--
        return exclusive.leave(hold)
    }

    async function end () {
        covered = 0
        loss = undefined
        await Promise.all([ exclusive.end(), shared.end() ])
    }

    const functions = {
        async lock () {
            begin()
            await exclusive.enter(true)
        },
        async tryLock () {
            begin()
            return await exclusive.enter(false) !== null
        },
        async unlock () {
            begin()
            return exclusive.count > covered && exclusive.leave()
        },
        async withLock (fn) {
            begin()
            const hold = await exclusive.enter(true)
            return guarded(hold, () => exclusive.leave(hold), fn)
        },
        async lockShared () {
            begin()
            await enterShared(true)
        },
        async tryLockShared () {
            begin()
            return await enterShared(false) !== null
        },
        async unlockShared () {
            begin()
            return leaveShared()
        },
        async withLockShared (fn) {
            begin()
            const hold = await enterShared(true)
            return guarded(hold, () => leaveShared(hold), fn)
        }
    }
    return { functions, end }
}

module.exports = advisoryLock
module.exports.default = advisoryLock
module.exports.strToKey = strToKey
module.exports.mutexUrl = (connectionString, lockName) => database(connectionString)(lockName)
