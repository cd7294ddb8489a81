-- Who waits, and who is next. Put behind state.lua and legacy.lua.

local function listeners (channel)
    return call('PUBSUB', 'NUMSUB', channel)[2]
end

-- Brings the lock up to date: readers whose time is over leave, dead waiters leave the head of the queue, and a free
-- lock (unless it is left free for 1.1.2) goes to the first waiter, or to the run of shared ones at the head. Each is told over the channel of its connection:
-- "<owner> <token> <asked>", the last being what the waiter's entry says: which of its questions this answers. A waiter whose connection
-- is not there at this moment is passed over but keeps its place: it may be reconnecting. Returns whether whoever comes now is next: nobody who
-- listens is before it.
local function settle ()
    if state == 'shared' then
        forget_readers(call('ZRANGEBYSCORE', READERS, '-inf', text(now)))
        if call('EXISTS', READERS) == 0 then
            call('DEL', MAIN)
            state = 'free'
        end
    else
        -- The main key was deleted, or taken after it had run out: the readers' holds are gone with it.
        forget_readers(call('ZRANGE', READERS, 0, -1))
    end
    local rank = 0
    while true do
        local owner = call('ZRANGE', QUEUE, rank, rank)[1]
        if not owner then
            return true
        elseif state == 'free' and turns() > now then
            return false
        end
        local beat = tonumber(call('ZSCORE', BEATS, owner) or '0')
        local mode, fenced, ttl, channel, asked, info = string.match(call('HGET', INFO, owner) or '', ENTRY)
        if not mode or beat <= now then
            first_changed = true
            forget_waiter(owner)
        elseif state == 'free' or (state == 'shared' and mode == 's') then
            local minted = mint(fenced, micros)
            if call('PUBLISH', channel, owner .. ' ' .. minted .. ' ' .. asked) == 0 then
                rank = rank + 1
            else
                first_changed = true
                forget_waiter(owner)
                if mode == 'x' then
                    take_exclusive(owner, minted, ttl, info)
                else
                    take_shared(owner, fenced, minted, ttl, channel, info)
                end
            end
        elseif state == 'shared' and listeners(channel) == 0 then
            rank = rank + 1
        else
            return false
        end
    end
end

-- Whether `owner` is the first waiter that listens (or would be, if it listened).
local function is_first (owner)
    local rank = 0
    while true do
        local other = call('ZRANGE', QUEUE, rank, rank)[1]
        if not other or other == owner then
            return other == owner
        end
        local _, _, _, channel = string.match(call('HGET', INFO, other) or '', ENTRY)
        if channel and listeners(channel) > 0 then
            return false
        end
        rank = rank + 1
    end
end

-- What the first waiter must know to wait well: does a 1.1.2 process hold the lock, and ms until the lock may be free by itself
-- (negative: never).
local function prospects ()
    local left = call('PTTL', MAIN)
    if state == 'free' then
        left = math.max(turns() - now, 0)
    end
    return state == 'foreign' and 1 or 0, left
end

-- The answer to a waiter: { 'queued', is it the first, and prospects() }.
local function place (owner)
    return { 'queued', is_first(owner) and 1 or 0, prospects() }
end

-- The end of every script that may have changed who is first: the first waiter looks after the lock for all behind it, so it must know that it
-- is the first. It is told "<owner> first <foreign> <left>", unless it is in `knows` and learns it from the script's answer.
local function tell_first (knows)
    local rank = 0
    while first_changed do
        local owner = call('ZRANGE', QUEUE, rank, rank)[1]
        if not owner or knows[owner] then
            return
        end
        local _, _, _, channel = string.match(call('HGET', INFO, owner) or '', ENTRY)
        local foreign, left = prospects()
        if channel and call('PUBLISH', channel, owner .. ' first ' .. foreign .. ' ' .. left) > 0 then
            return
        end
        rank = rank + 1
    end
end
