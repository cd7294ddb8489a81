// Locks between the processes of a cluster.
import { withAgents } from "../harness/agents.mjs"
import { together } from "../harness/handover.mjs"

const contenders = [
    { role: "ours", label: "ipc-mutex", file: "ours", name: "ours" },
    { role: "floor", label: "two process.send trips", file: "cluster", name: "floor", excludes: false }
]

const inCluster = (contender, target, argument) => withAgents(1, contender, target, (primary) => primary.call("workers", argument))

const crowded = (ids) => async (contender, target, { milliseconds, profile }) => {
    const results = await inCluster(contender, target, { count: 4, ids, workload: "crowd", argument: { milliseconds }, profile })
    // Different ids do not exclude each other.
    return together(results, { excludes: contender.excludes !== false && new Set(ids).size === 1 })
}

const crowdMetrics = [
    { key: "perSecond", title: "pairs", unit: "/s", better: "higher", goals: { floor: 0.9 } },
    { key: "fairness", title: "Jain", unit: "", better: "higher", goals: { limit: 0.99 }, draw: false }
]

export const group = {
    name: "mpm",
    title: "A cluster (mpm)",
    start: async () => ({ target: { url: "mpm:{id}" }, stop: async () => {} }),
    scenarios: [
        {
            name: "pair", title: "Uncontended pair from a worker", contenders,
            metrics: [
                { key: "p50", title: "p50", unit: "ns", better: "lower", goals: { floor: 1.1 } },
                { key: "p99", title: "p99", unit: "ns", better: "lower", goals: { floor: 1.1 } }
            ],
            run: async (contender, target, { milliseconds, profile }) =>
                (await inCluster(contender, target,
                    { count: 1, ids: [ "bench" ], workload: "pairs", argument: { milliseconds }, profile }))[0]
        },
        {
            name: "crowd", title: "4 workers on one id", contenders, metrics: crowdMetrics,
            run: crowded([ "bench", "bench", "bench", "bench" ])
        },
        {
            name: "spread", title: "4 workers on 4 ids", contenders, metrics: crowdMetrics,
            run: crowded([ "bench-1", "bench-2", "bench-3", "bench-4" ])
        }
    ]
}
