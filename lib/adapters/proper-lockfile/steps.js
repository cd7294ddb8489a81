"use strict"

const path = require("node:path")

/*
 * Each function here is written once for both halves of the API. It yields the calls of the file system that it needs, as a name with arguments, and gets
 * back what they return or throw.
 */

const failure = (code, message, more) => Object.assign(new Error(message), { code, ...more })

const folderOf = (file, options) => options.lockfilePath || `${file}.lock`

function* canonical (file, options) {
    return options.realpath ? yield [ "realpath", file ] : path.resolve(file)
}

/** The time stamps of folders are compared with the clock on the wall. */
const wallClock = () => Date.now() // eslint-disable-line no-restricted-properties

const isStale = (stat, options) => stat.mtime.getTime() < wallClock() - options.stale

/** Makes the folder of a lock, or throws. @param {import("./held.js").Held} lock */
function* enter (lock) {
    const { file, folder, machine, options } = lock
    const taken = () => failure("ELOCKED", "Lock file is already being held", { file })
    if (machine !== undefined && !machine.take())
        throw taken()
    if (!(yield* make(folder))) {
        // One look at the other's folder: if it has gone meanwhile, or was abandoned, there is one more try.
        let stat
        try {
            stat = yield [ "stat", folder ]
        }
        catch (error) {
            if (error.code !== "ENOENT")
                throw error
        }
        if (stat !== undefined) {
            if (!isStale(stat, options) && !machine?.recalls())
                throw taken()
            yield* remove(folder)
        }
        if (!(yield* make(folder)))
            throw taken()
    }
    try {
        lock.mtime = (yield [ "stat", folder ]).mtime
    }
    catch (error) {
        yield* remove(folder)
        throw error
    }
}

function* make (folder) {
    try {
        yield [ "mkdir", folder ]
        return true
    }
    catch (error) {
        if (error.code !== "EEXIST")
            throw error
        return false
    }
}

function* remove (folder) {
    try {
        yield [ "rmdir", folder ]
    }
    catch (error) {
        if (error.code !== "ENOENT")
            throw error
    }
}

/** Sets the time of the folder again. Throws `Replaced` if somebody else did. */
function* refresh (lock) {
    const found = yield [ "stat", lock.folder ]
    if (lock.isOver)
        return
    if (!isTime(found.mtime, lock.mtime))
        throw failure("ECOMPROMISED", "Unable to update lock within the stale threshold")
    const now = new Date(wallClock())
    yield [ "utimes", lock.folder, now, now ]
    lock.mtime = now
}

/** Whether a time is the one that was set, as far as the file system keeps it: some keep whole seconds. */
function isTime (found, set) {
    const [ a, b ] = [ found.getTime(), set.getTime() ]
    return a === b || a === Math.floor(b / 1000) * 1000 || a === Math.ceil(b / 1000) * 1000
}

const SYNC = { realpath: "realpathSync", mkdir: "mkdirSync", stat: "statSync", rmdir: "rmdirSync", utimes: "utimesSync" }

/** Runs such a function to its end. */
function runSync (steps, fs) {
    let step = steps.next()
    while (!step.done) {
        const [ name, ...args ] = step.value
        let result
        try {
            result = fs[SYNC[name]](...args)
        }
        catch (error) {
            step = steps.throw(error)
            continue
        }
        step = steps.next(result)
    }
    return step.value
}

async function run (steps, fs) {
    let step = steps.next()
    while (!step.done) {
        const [ name, ...args ] = step.value
        let result
        try {
            result = await new Promise((resolve, reject) => {
                fs[name](...args, (error, value) => error ? reject(error) : resolve(value))
            })
        }
        catch (error) {
            step = steps.throw(error)
            continue
        }
        step = steps.next(result)
    }
    return step.value
}

module.exports = { canonical, enter, failure, folderOf, isStale, refresh, remove, run, runSync }
