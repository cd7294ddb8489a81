"use strict"

const { MutexError } = require("../../../index.js")
const { Pool } = require("./pool.js")
const { guarded } = require("./guarded.js")
const { strToKey } = require("./key.js")
const { database } = require("./url.js")

/**
 * What the package advisory-lock does, in the shape of its version 2. See v2.d.ts.
 * @param {string} connectionString
 * @returns {(lockName: string | [number, number]) => object}
 */
function advisoryLock (connectionString) {
    const url = database(connectionString)
    return (lockName) => {
        const pool = new Pool(url(lockName))
        const exclusive = calls(pool, false)
        const shared = calls(pool, true)
        return {
            withLock: exclusive.withLock, lock: exclusive.lock, tryLock: exclusive.tryLock, unlock: exclusive.unlock,
            withLockShared: shared.withLock, lockShared: shared.lock, tryLockShared: shared.tryLock, unlockShared: shared.unlock
        }
    }
}

/** The longest time that a timer can wait. */
const LONGEST = 2 ** 31 - 1

/** The functions of one mode; each hold is independent of all others. */
function calls (pool, shared) {
    /** The unlock functions of what is held, oldest first. */
    const held = new Set()

    function holding (hold) {
        let isReleased = false
        // A held lock keeps the process alive, as the connection behind it does in the original.
        const alive = setInterval(() => {}, LONGEST)
        const over = () => {
            clearInterval(alive)
            held.delete(unlock)
        }
        const unlock = async () => {
            if (isReleased)
                throw new MutexError("ERR_NOT_ACQUIRED", "the lock has been unlocked before")
            isReleased = true
            over()
            await hold.release()
        }
        held.add(unlock)
        hold.loss.catch(over)
        return unlock
    }

    return {
        async lock () {
            return holding(await pool.take(shared, true))
        },
        async tryLock () {
            const hold = await pool.take(shared, false)
            return hold === null ? undefined : holding(hold)
        },
        async unlock () {
            const [ oldest ] = held
            await oldest?.()
        },
        async withLock (fn) {
            const hold = await pool.take(shared, true)
            return guarded(hold, holding(hold), fn)
        }
    }
}

module.exports = advisoryLock
module.exports.default = advisoryLock
module.exports.strToKey = strToKey
module.exports.mutexUrl = (connectionString, lockName) => database(connectionString)(lockName)
