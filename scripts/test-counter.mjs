// A reporter of node:test that counts, and keeps what failed and why: one line of JSON after each test, so that the last
// line of a file that was ended half-way still says what came before.

/** Suites are not tests; their own failure is that of a test or a hook in them, and a hook's failure counts. */
export default async function * count (source) {
    const sum = { passed: 0, failed: 0, skipped: [], failures: [] }
    for await (const { type, data } of source) {
        if (type !== "test:pass" && type !== "test:fail")
            continue
        const suite = data.details?.type === "suite"
        if (type === "test:fail") {
            const ownFault = data.details?.error?.failureType !== "subtestsFailed"
            if (!ownFault)
                continue
            sum.failed++
            sum.failures.push({ name: data.name, reason: reasonOf(data.details?.error) })
        }
        else if (suite)
            continue
        else if (data.skip !== undefined || data.todo !== undefined)
            sum.skipped.push(`${data.name} (${data.skip ?? data.todo})`)
        else
            sum.passed++
        yield `${JSON.stringify(sum)}\n`
    }
}

/** What the test's own error says; node:test wraps it in one of its own. */
function reasonOf (error) {
    const own = error?.cause ?? error
    return String(own?.message ?? own ?? "no reason given")
}
