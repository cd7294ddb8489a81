// Puts known faults of the JavaScript layer back, one at a time, into a copy of it, and shows that a test catches each:
//   node scripts/mutants.mjs [--only <text>]
// A fault is a change of text in one file. Prints the test that failed for each; ends with 1 if one survives, or does not fit the code any more. Needs the
// addon that `npm run build:debug` makes.
import { rmSync } from "node:fs"
import { join } from "node:path"
import { spawn } from "node:child_process"
import { parseArgs } from "node:util"
import { copy, patch } from "./patched.mjs"

const { values: { only = "" } } = parseArgs({ options: { only: { type: "string" } } })

/** The longest a test file may take, in seconds: a call that never settles is a find. */
const LIMIT = 120

const CALLS = "model/calls.test.mjs", REMOTE = "model/remote-calls.test.mjs"
const SPM = "conformance/spm.test.mjs", MPM = "conformance/mpm.test.mjs"
const MANAGER = "manager/spm.test.mjs"
const CUT = "mpm/cut-off.test.mjs", ONCE = "model/transitions.test.mjs", SURROUNDINGS = "spm/surroundings.test.mjs"

/** What is wrong, where, the text that goes and the one that comes, and who must notice. */
const FAULTS = [
    [ "requests of one signal are withdrawn one by one, the first first", "aborts.js", "this.withdrawAll?.([ ...this.#requests ], reason)",
        "for (const one of this.#requests)\n                this.withdrawAll([ one ], reason)", [ CALLS, SPM ] ],
    [ "requests are cancelled in the order in which they were asked", "request.js", "withdrawn.reverse()", "withdrawn", [ ONCE ] ],
    [ "a request that is over can be withdrawn again", "request.js",
        "if (this.#state !== ASKED)\n            return false\n        this.#state = state", "this.#state = state", [ ONCE ] ],
    [ "a call does not look whether its hold has ended", "request.js", "this.session.check(this.hold)", "", [ SPM, CALLS ] ],
    [ "withLock() does not look before it starts its function", "with-lock.js", "    check(handle)\n", "\n", [ CALLS, SPM, REMOTE ] ],
    [ "what acquire() got is in the books later", "request.js", "session.unreleased.push(this.hold)",
        "queueMicrotask(() => queueMicrotask(() => queueMicrotask(() => session.unreleased.push(this.hold))))", [ SPM ] ],
    [ "a session outlives close()", "mutex.js", "session = new Session(", "session = this.#session ?? new Session(", [ SPM ],
        [ "this.#session = undefined\n        try", "try" ] ],
    [ "close() forgets what is held", "session.js", "hold.close(error)", "", [ SPM ] ],
    [ "listeners are told at once", "notify.js", "told.push(of, call, first, second)\n    schedule()", "call(first, second)", [ CALLS, SPM ] ],
    [ "what a listener throws stops the rest", "notify.js", "first, second)\n    }\n    catch (error) {\n        uncaught(error)\n    }",
        "first, second)\n    }\n    finally {}", [ SPM ] ],
    [ "everybody is told in the context of whoever came first", "notify.js", "if (of?.context === undefined)", "if (true)", [ SPM ] ],
    [ "a bound store is not there at the end of the span", "trace.js", "if (typeof start.runStores === \"function\")", "if (false)", [ SPM ] ],
    [ "the span of a hold does not end with close()", "session.js", "trace.ended(hold, state === CLOSED ? undefined : reason)",
        "if (state !== CLOSED)\n            trace.ended(hold, reason)", [ SPM ] ],
    [ "a hold ends twice", "hold.js", "if (this.#state !== HELD)\n            return false\n        this.#state", "this.#state", [ ONCE ] ],
    [ "a second release of a handle is one", "hold.js", "if (this.#releasing !== undefined)\n            return this.#releasing\n", "", [ ONCE ] ],
    [ "lock.signal does not know what happened before it was read", "hold.js", "if (reason !== undefined)\n            this.#controller.abort(reason)", "",
        [ SPM ] ],
    [ "lock.signal does not look at the clock of the lease", "models/rpm.js", "if (native.remoteBelieved(port.attach(), hold.key))", "if (true)", [ REMOTE ] ],
    [ "a loss goes before the grant", "session.js", "notify.later(hold, () => {\n            debug(\"%s: %s (%s)%s\"",
        "(event === \"lost\" ? (_hold, call) => call() : notify.later)(hold, () => {\n            debug(\"%s: %s (%s)%s\"", [ REMOTE ] ],
    [ "a late grant is believed in", "cluster/client.js", "Atomics.load(this.#memory, this.#sign) !== this.#owner", "false", [ CUT ] ],
    [ "lock.signal does not see the cut", "cluster/model.js", "this.client.verify()", "", [ CUT ] ],
    [ "a withdrawal of spm: that crosses a grant does not give it back", "models/spm.js",
        "answer === GRANTED_ALREADY ? native.localRelease(this.env, request.ticket) : answer", "answer", [ SPM, "spm/threads.test.mjs" ] ],
    [ "the hold of a withdrawn request stays", "models/rpm.js", "if (!isClosing)\n            return port.call", "if (isClosing)\n            return port.call",
        [ REMOTE ] ],
    [ "release() means whatever the object waits for", "request.js", "&& this.#step === step", "", [ SPM ] ],
    [ "release() behind acquire() knows nothing of it", "request.js", "&& this.#step === step", "&& false", [ SPM, MPM ] ],
    [ "the line of bare calls is not told of close()", "models/bare.js", "if (this.session.isOpen)", "if (true)", [ SPM, CALLS ] ],
    [ "what was stolen unheard is still held when the lock is taken anew", "models/spm.js",
        "this.isTaken || this.session.hasHolds ? this.#takeAnew() : this.isTaken = true", "this.isTaken = true", [ MANAGER, "manager/workers.test.mjs" ] ],
    [ "release() forgets the older hold that was stolen", "mutex.js", " && !this.#session.hasUnreleased", "", [ MANAGER ] ],
    [ "detection does not know servers apart", "deadlock.js", "holder.url === url", "holder.url.split(\":\").at(-1) === url.split(\":\").at(-1)", [ SPM ] ],
    [ "detection remembers a hold that has ended", "deadlock.js", "flow.isHeld = false", "", [ SPM ] ],
    [ "detection judges calls that nobody waits for", "deadlock.js", "waits = false\n", "waits = true\n", [ SPM ],
        [ "this.waits = this.#dependent", "this.waits = true || this.#dependent" ] ],
    [ "detection counts timers as the holder", "deadlock.js", "if (this.holder.active > 0)\n            return\n", "", [ SPM ] ],
    [ "NODE_DEBUG looks for deadlocks", "mutex.js", "detectDeadlocks ? require", "detectDeadlocks || isDebugging ? require", [ SURROUNDINGS ] ],
    [ "signals are known by their class", "settings.js", "const isSignal = (value) => ",
        "const isSignal = (value) => value instanceof AbortSignal && ", [ SPM ] ],
    [ "timers may be faked", "timing.js", "module.exports = { clearTimeout, microtask, nextTick, now, setImmediate, setTimeout }",
        "module.exports = { clearTimeout, microtask, nextTick, now, setImmediate, setTimeout: (...args) => globalThis.setTimeout(...args) }", [ SURROUNDINGS ] ]
]

/** @returns {Promise<string | undefined>} the first test that fails; undefined if all pass */
function failure (folder, file) {
    return new Promise((resolve) => {
        const child = spawn(process.execPath, [ "--test", "--test-reporter", "tap", join("__test__", file) ], { cwd: folder, detached: true })
        let output = ""
        child.stdout.on("data", (chunk) => { output += chunk })
        const timer = setTimeout(() => process.kill(-child.pid, "SIGKILL"), 1000 * LIMIT)
        child.on("close", (code) => {
            clearTimeout(timer)
            const failed = /^ *not ok \d+ - (.*)$/m.exec(output)?.[1]
            resolve(code === 0 ? undefined : failed ?? "a call that never settles")
        })
    })
}

/** @returns {Promise<string | undefined>} who caught it */
async function caught (folder, [ , file, find, replacement, tests, second ]) {
    const restore = patch(folder, join("lib", file), [ [ find, replacement ], ...second === undefined ? [] : [ second ] ])
    try {
        for (const test of tests) {
            const failed = await failure(folder, test)
            if (failed !== undefined)
                return `${test}: ${failed}`
        }
        return undefined
    }
    finally {
        restore()
    }
}

const folder = copy()
let survivors = 0
try {
    for (const fault of FAULTS.filter(([ name ]) => name.includes(only))) {
        let result
        try {
            result = await caught(folder, fault)
        }
        catch (error) {
            result = undefined
            console.log(error.message)
        }
        survivors += result === undefined ? 1 : 0
        console.log(`${result === undefined ? "SURVIVES" : "caught  "}  ${fault[0]}\n            ${result ?? ""}`)
    }
}
finally {
    rmSync(folder, { recursive: true })
}
console.log(survivors === 0 ? "every fault is caught" : `${survivors} not caught`)
process.exitCode = survivors === 0 ? 0 : 1
