// One lock per record, within one process.
import { withAgents } from "../harness/agents.mjs"

const contenders = [
    { role: "ours", label: "LockManager", file: "names", name: "ours" },
    { role: "floor", label: "an await", file: "names", name: "floor" },
    { role: "peer", label: "async-lock", file: "names", name: "asyncLock" },
    { role: "peer", label: "async-mutex", file: "names", name: "asyncMutex" }
]
const metrics = [ { key: "perSecond", title: "functions", unit: "/s", better: "higher", goals: { peers: true } } ]

const rate = (names) => async (contender, target, { quick }) => {
    const { each } = await withAgents(1, contender, target, (agent) => agent.call("records", { names, count: quick ? 50_000 : 300_000 }))
    return { perSecond: 1e9 / each }
}

export const group = {
    name: "names",
    title: "One lock per record (spm)",
    start: async () => ({ target: { url: "spm:" }, stop: async () => {} }),
    scenarios: [
        { name: "hot", title: "100 names in turn", contenders, metrics, run: rate(100) },
        { name: "fresh", title: "A new name each time", contenders, metrics, run: rate(0) }
    ]
}
