// Makes a test file fail for what its tests leave behind in the process. Once per file, at its top:
//
//     import { watchLeaks } from "./support/leaks.mjs"
//     watchLeaks()
import { afterEach, beforeEach } from "node:test"
import { readFileSync } from "node:fs"
import { alive, descendants } from "./processes.mjs"
import { reaperPid } from "./reaper.mjs"

/**
 * Fails the file (exit code 1 and the reasons on standard error) for
 *
 * - an unhandled rejection, also one that comes after its test has ended;
 * - a warning of too many listeners on an emitter;
 * - something that keeps the process alive `grace` (10,000) milliseconds after the last test and its hooks: a handle, a timer, a
 *   connection, a child;
 * - a child or a server of a test that still lives when the process ends.
 *
 * @param {object} [options]
 * @param {number} [options.grace] milliseconds
 */
export function watchLeaks ({ grace = 10_000 } = {}) {
    const faults = []
    let running = 0
    let timer

    process.on("unhandledRejection", (reason) => faults.push(`unhandled rejection: ${reason?.stack ?? reason}`))
    process.on("warning", (warning) => {
        if (warning.name === "MaxListenersExceededWarning")
            faults.push(warning.stack)
    })
    beforeEach(() => {
        running++
        clearTimeout(timer)
    })
    afterEach((t) => {
        // the last of the test's own hooks, which clear away and may rightly take long
        t.after(() => {
            clearTimeout(timer)
            if (--running === 0)
                expect(10)
        })
    })
    // A process that leaks nothing has ended before the last of these fires, for the timers themselves do not keep it alive. In several
    // steps, as all that is due after a moment in which the machine stood still is due at once.
    const expect = (steps) => {
        timer = setTimeout(() => {
            if (steps > 1)
                return expect(steps - 1)
            faults.push(`still alive ${grace} ms after the last test, kept so by: ${process.getActiveResourcesInfo().join(", ")}`)
            process.exit(1)
        }, grace / 10).unref()
    }
    process.on("exit", () => {
        for (const pid of descendants(process.pid))
            if (pid !== reaperPid() && alive(pid))
                faults.push(`process ${pid} was left behind: ${commandLine(pid)}`)
        if (faults.length > 0) {
            process.exitCode = 1
            console.error(`\nleft behind by the tests of ${process.argv[1]}:\n${faults.join("\n")}`)
        }
    })
}

function commandLine (pid) {
    try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ").slice(0, 200)
    }
    catch {
        return "?"
    }
}
