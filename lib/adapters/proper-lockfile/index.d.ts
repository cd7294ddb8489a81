/**
 * The API of the package proper-lockfile: a lock for a file, held by whoever made the folder `<file>.lock`.
 *
 * ```js
 * import lockfile from "ipc-mutex/proper-lockfile"
 *
 * const release = await lockfile.lock("data.json", { retries: 5 })
 * try { rewrite("data.json") } finally { await release() }
 * ```
 *
 * Programs with either package exclude each other. On Linux, those with this one know at once that a holder was killed, are let in without polling, and
 * keep their lock while their event loop is busy.
 *
 * @param file path of the file; it must exist unless `realpath` is false
 * @returns a function that releases the lock; called again, it rejects with `ERELEASED`
 * @throws an error with the code `ELOCKED` if others still hold the lock after all retries, or the error of the file system
 */
declare function lock (file: string, options?: lock.LockOptions): Promise<() => Promise<void>>

declare namespace lock {
    /** Pauses between tries, as in the package retry. */
    export interface RetryOptions {
        /** Tries after the first one, 10 by default. */
        retries?: number
        /** By what each pause is longer than the last one, 2 by default. */
        factor?: number
        /** The first pause, in milliseconds, 1000 by default. */
        minTimeout?: number
        /** The longest pause, in milliseconds. No limit by default. */
        maxTimeout?: number
        /** Makes each pause up to twice as long, at random. */
        randomize?: boolean
        /** Tries until it succeeds. */
        forever?: boolean
        /** Lets the process end during a pause that no holder can shorten. */
        unref?: boolean
        /** No more tries after this time, in milliseconds. */
        maxRetryTime?: number
    }

    export interface UnlockOptions {
        /** Follows symbolic links to the file, which must exist. True by default. */
        realpath?: boolean
        /** The folder that stands for the lock, `<file>.lock` by default. */
        lockfilePath?: string
        /** The file system to use, that of Node.js by default. With another one, the folder alone decides, as in proper-lockfile. */
        fs?: object
    }

    export interface CheckOptions extends UnlockOptions {
        /** The age in milliseconds at which a lock counts as abandoned, 10,000 by default, 2000 at least. */
        stale?: number
    }

    export interface LockOptions extends CheckOptions {
        /** How often the lock is marked as alive, in milliseconds. Half of `stale` by default and at most, 1000 at least. */
        update?: number
        /** How often to try again, or how; 0 by default. A release by a process of this package ends the pause. */
        retries?: number | number[] | RetryOptions
        /** Called when the lock was lost: its folder is gone or somebody else's. Throws the error by default, which is then uncaught. */
        onCompromised?: (error: Error & { code: "ECOMPROMISED" }) => unknown
    }

    export { lock }
    /** Releases the lock of a file that this thread holds. Rejects with `ENOTACQUIRED` if it does not. */
    export function unlock (file: string, options?: UnlockOptions): Promise<void>
    /** Whether somebody holds the lock of a file. */
    export function check (file: string, options?: CheckOptions): Promise<boolean>
    /** As `lock`, at once: it tries only once, and throws `ESYNC` if `retries` are given. */
    export function lockSync (file: string, options?: LockOptions): () => void
    /** As `unlock`. */
    export function unlockSync (file: string, options?: UnlockOptions): void
    /** As `check`. */
    export function checkSync (file: string, options?: CheckOptions): boolean
}

export = lock
