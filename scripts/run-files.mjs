// Runs node:test files, each in a process of its own, several at a time, and counts the tests in them.
//
// node --test would do most of this, but it knows neither how to end a file together with the processes that it
// started, nor, on Node 18, a time limit.
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { root } from "./cargo.mjs"

/** More than there are cores on a small machine, as most of a test's time is waiting: for a lease to end, for a server to start. */
const PARALLEL = 4
/** The longest a file may take, in seconds; a comment "// time limit: 900 s" in its first lines says otherwise. */
const LIMIT = 600

/**
 * Runs `paths` and prints one line for each that passes, the whole output of each that fails.
 * @param {string[]} paths from the top folder
 * @returns {Promise<{ passed: number, failed: number, skipped: number, failures: { name: string, reason: string }[] }>}
 */
export async function runFiles (paths) {
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-test-"))
    const sum = { passed: 0, failed: 0, skipped: 0 }
    const failures = []
    const queue = [ ...paths ]
    const lane = async () => {
        for (let path = queue.shift(); path; path = queue.shift()) {
            const counts = await runFile(path, join(folder, `${path.replaceAll("/", "-")}.json`))
            for (const key of Object.keys(sum))
                sum[key] += counts[key]
            failures.push(...counts.failures.map(({ name, reason }) => ({ name: name === join(root, path) ? path : `${path}: ${name}`, reason })))
        }
    }
    await Promise.all(Array.from({ length: PARALLEL }, lane))
    rmSync(folder, { recursive: true, force: true })
    return { ...sum, failures }
}

async function runFile (path, countFile) {
    const limit = limitOf(path)
    const reporters = [
        "--test-reporter", "spec", "--test-reporter-destination", "stdout",
        "--test-reporter", pathToFileURL(join(root, "scripts/test-counter.mjs")).href, "--test-reporter-destination", countFile
    ]
    const started = Date.now()
    const { code, signal, output, expired } = await execute([ ...reporters, path ], limit)
    const seconds = ((Date.now() - started) / 1000).toFixed(1)
    const counts = readCounts(countFile)
    const ok = code === 0 && counts.failed === 0
    const reason = expired ? `still running after ${limit} s, ended` : signal ? `ended by ${signal}` : `exit code ${code}`
    if (!ok && counts.failed === 0) {
        counts.failed = 1
        counts.failures.push({ name: "the file", reason })
    }
    if (ok && counts.passed === 0 && counts.skipped.length === 0) {
        const failures = [ { name: "the file", reason: "contains no test" } ]
        return report(`FAILED  ${path}: contains no test`, output, { passed: 0, failed: 1, skipped: 0, failures })
    }
    for (const name of counts.skipped)
        console.log(`skipped ${path}: ${name}`)
    const result = { ...counts, skipped: counts.skipped.length }
    if (ok) {
        console.log(`ok      ${path} (${result.passed}, ${seconds} s)`)
        return result
    }
    return report(`FAILED  ${path} (${result.passed} passed, ${result.failed} failed, ${seconds} s, ${reason})`, output, result)
}

function report (line, output, result) {
    console.log(`\n${line}\n${output.trimEnd().replace(/^/gm, "    | ")}\n`)
    return result
}

/** Ends a file that runs now, one function for each. */
const running = new Set()

for (const [ signal, code ] of [ [ "SIGINT", 130 ], [ "SIGTERM", 143 ] ])
    process.once(signal, () => {
        for (const end of running)
            end()
        process.exit(code)
    })

/** In a process group of its own, so that a file that hangs is ended with everything it started. */
function execute (args, limit) {
    return new Promise((resolve) => {
        const grouped = process.platform !== "win32"
        const child = spawn(process.execPath, args, { cwd: root, detached: grouped, stdio: [ "ignore", "pipe", "pipe" ] })
        let output = ""
        let expired = false
        const end = () => {
            try {
                process.kill(grouped ? -child.pid : child.pid, "SIGKILL")
            }
            catch {
                // It is gone already.
            }
        }
        running.add(end)
        const timer = setTimeout(() => {
            expired = true
            end()
        }, limit * 1000)
        child.stdout.on("data", (chunk) => output += chunk)
        child.stderr.on("data", (chunk) => output += chunk)
        const over = (code, signal) => {
            clearTimeout(timer)
            running.delete(end)
            setImmediate(() => resolve({ code, signal, output, expired }))
        }
        // It could not be started, and there will be no exit.
        child.on("error", (error) => {
            output += error.stack
            over(1, null)
        })
        // A child that the file left behind may hold the pipes open, so the end of the file is its exit, not "close".
        child.on("exit", (code, signal) => {
            over(code, signal)
            if (grouped)
                end()
        })
    })
}

function limitOf (path) {
    const head = readFileSync(join(root, path), "utf8").slice(0, 2000)
    return Number(head.match(/^\/\/ time limit: (\d+) s$/m)?.[1] ?? LIMIT)
}

function readCounts (file) {
    try {
        return JSON.parse(readFileSync(file, "utf8").trim().split("\n").at(-1))
    }
    catch {
        // The file ended before it could count anything.
        return { passed: 0, failed: 0, skipped: [], failures: [] }
    }
}
