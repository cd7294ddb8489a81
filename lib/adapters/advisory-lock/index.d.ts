/**
 * The API of version 1 of the package advisory-lock: PostgreSQL's session-level advisory locks.
 *
 * ```js
 * import advisoryLock from "ipc-mutex/advisory-lock"
 *
 * const { withLock, tryLock, unlock } = advisoryLock("postgres://user:password@db.example/app")("nightly-report")
 *
 * await withLock(async () => {
 *     // at most one at a time, on all machines
 * })
 * if (await tryLock())
 *     try { work() } finally { await unlock() }
 * ```
 *
 * @param connectionString a PostgreSQL connection URI (`postgres://...`, `postgresql://...`) or a string of `name=value`
 *   pairs. Missing parts come from the `PG*` environment variables. An invalid string throws `ERR_INVALID_URL` at once.
 * @returns a function that creates the mutex object of a lock. Nothing connects before the first call of one of its functions.
 */
declare function advisoryLock (connectionString?: string): advisoryLock.CreateMutex

declare namespace advisoryLock {
    /** A name, or the two signed 32-bit integers of `pg_advisory_lock(int4, int4)` themselves. */
    export type LockName = string | readonly [ number, number ]

    /** Creates the mutex object of a lock. All objects of one such function are one owner, a PostgreSQL session. */
    export interface CreateMutex {
        (lockName: LockName): AdvisoryMutex
        readonly client: {
            /** Releases everything that the session holds. */
            end (): Promise<void>
        }
    }

    /**
     * Functions, not methods: you can destructure them. All reject with a `MutexError`: `ERR_CONNECT`, `ERR_AUTH`, `ERR_TLS` or
     * `ERR_SERVER` if the server cannot be used, and `ERR_LOCK_LOST` if the connection that held the lock has ended. If no call is
     * running at that time, the next call of any function rejects, once.
     *
     * The object can take again what it holds, at once, and must release it as often. It can take a shared lock while it
     * holds the exclusive one. The exclusive lock waits for shared holds, including the object's own.
     */
    export interface AdvisoryMutex {
        /**
         * Waits for the exclusive lock, runs `fn`, and releases the lock, even if `fn` throws. If the lock is lost meanwhile, rejects at
         * once with `ERR_LOCK_LOST`, whatever `fn` is doing.
         * @returns what `fn` resolves to
         */
        withLock<T = undefined> (fn?: () => T | Promise<T>): Promise<T>
        /** Waits for the exclusive lock. */
        lock (): Promise<void>
        /** Takes the exclusive lock if it is free. @returns whether it did */
        tryLock (): Promise<boolean>
        /** Releases the exclusive lock. @returns false if the object did not hold it */
        unlock (): Promise<boolean>
        /** As `withLock`, with a shared lock. */
        withLockShared<T = undefined> (fn?: () => T | Promise<T>): Promise<T>
        /** Waits for a shared lock, which any number of owners can share. */
        lockShared (): Promise<void>
        /** Takes a shared lock if no exclusive one is held or waited for. @returns whether it did */
        tryLockShared (): Promise<boolean>
        /** Releases a shared lock. @returns false if the object did not hold one */
        unlockShared (): Promise<boolean>
    }

    /**
     * The two integers for a name: the first and second four bytes of its SHA-256, little-endian.
     * `strToKey("test-lock")` is `[ -107789403, -1898803861 ]`.
     */
    export function strToKey (name: string): [ number, number ]

    /**
     * The URL of a `Mutex` for the same lock, with fencing tokens, timeouts, cancel and `query()`. It contains the password.
     * @throws MutexError of code `ERR_INVALID_URL`
     */
    export function mutexUrl (connectionString: string, lockName: LockName): string

    export { advisoryLock as default }
}

export = advisoryLock
