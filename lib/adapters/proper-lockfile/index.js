"use strict"

const nodeFs = require("node:fs")
const path = require("node:path")
const { Held, find } = require("./held.js")
const { delays, mainError } = require("./delays.js")
const { canonical, enter, failure, folderOf, isStale, remove, run, runSync } = require("./steps.js")
const { MachineLock } = require("../../lock-file.js")

const SHORTEST_STALE = 2000, SHORTEST_UPDATE = 1000

function lockOptions (given) {
    const options = { stale: 10000, update: null, realpath: true, retries: 0, fs: nodeFs, onCompromised: (error) => { throw error }, ...given }
    options.stale  = Math.max(options.stale || 0, SHORTEST_STALE)
    const update   = (options.update ?? options.stale / 2) || 0
    options.update = Math.max(Math.min(update, options.stale / 2), SHORTEST_UPDATE)
    return options
}

const otherOptions = (given) => ({ realpath: true, fs: nodeFs, ...given })

function checkOptions (given) {
    const options = { stale: 10000, ...otherOptions(given) }
    options.stale = Math.max(options.stale || 0, SHORTEST_STALE)
    return options
}

/** @returns a function that releases the lock */
async function lock (file, given) {
    const options = lockOptions(given)
    const held = new Held(await run(canonical(file, options), options.fs), options, run)
    const { machine } = held
    const errors = []
    const pauses = delays(options.retries || 0)
    const began = performance.now()
    try {
        for (;;) {
            try {
                await run(enter(held), options.fs)
                break
            }
            catch (error) {
                errors.push(error)
                const { value, done } = pauses.next()
                if (done || performance.now() - began >= (options.retries.maxRetryTime ?? Infinity))
                    throw mainError(errors)
                await pause(value, machine, options.retries.unref)
            }
        }
    }
    catch (error) {
        machine?.close()
        throw error
    }
    held.begin()
    return async () => {
        if (held.isOver)
            throw failure("ERELEASED", "Lock is already released")
        return unlock(held.file, { ...options, realpath: false })
    }
}

/** The next try comes after a pause, or at once when the holder has released. */
const pause = (ms, machine, unref) => machine !== undefined && !machine.isHeld ? machine.wait(ms) : new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    if (unref)
        timer.unref()
})

function lockSync (file, given) {
    withoutRetries(given)
    const options = lockOptions(given)
    const held = new Held(runSync(canonical(file, options), options.fs), options, runLater)
    try {
        runSync(enter(held), options.fs)
    }
    catch (error) {
        held.machine?.close()
        throw error
    }
    held.begin()
    return () => {
        if (held.isOver)
            throw failure("ERELEASED", "Lock is already released")
        return unlockSync(held.file, { ...options, realpath: false })
    }
}

/** A file system with synchronous calls only. */
const runLater = async (steps, fs) => runSync(steps, fs)

function withoutRetries (given) {
    const retries = given?.retries?.retries ?? given?.retries
    if (retries > 0)
        throw failure("ESYNC", "Cannot use retries with the sync api")
}

async function unlock (file, given) {
    const options = otherOptions(given)
    const held = find(await run(canonical(file, options), options.fs))
    held.leave()
    try {
        await run(remove(folderOf(held.file, options)), options.fs)
    }
    finally {
        held.left()
    }
}

function unlockSync (file, given) {
    withoutRetries(given)
    const options = otherOptions(given)
    const held = find(runSync(canonical(file, options), options.fs))
    held.leave()
    try {
        runSync(remove(folderOf(held.file, options)), options.fs)
    }
    finally {
        held.left()
    }
}

function* look (given, options) {
    const folder = folderOf(yield* canonical(given, options), options)
    let stat
    try {
        stat = yield [ "stat", folder ]
    }
    catch (error) {
        if (error.code === "ENOENT")
            return false
        throw error
    }
    return !isStale(stat, options) && !(options.fs === nodeFs && wasAbandoned(folder))
}

function wasAbandoned (folder) {
    const machine = MachineLock.open(path.resolve(folder))
    try {
        return machine?.wasAbandoned() ?? false
    }
    finally {
        machine?.close()
    }
}

async function check (file, given) {
    const options = checkOptions(given)
    return run(look(file, options), options.fs)
}

function checkSync (file, given) {
    withoutRetries(given)
    const options = checkOptions(given)
    return runSync(look(file, options), options.fs)
}

module.exports = lock
Object.assign(module.exports, { lock, unlock, check, lockSync, unlockSync, checkSync })
