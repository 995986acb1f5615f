-- Whether sign-in for this e-mail from this address has to wait.
--
-- A pair of e-mail and address that failed too often waits, longer each time, up to
-- lock_limit. Failures from many addresses slow down every address from which the
-- owner has not signed in before: a stranger can lock nobody out for good. The
-- answer depends on attempts only, not on whether the e-mail exists.
set local role pandom_definer;

create or replace function public.sign_in_locked(email_digest bytea, address inet)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
declare
    rules public.account_settings;
    pair public.sign_in_attempts;
    everywhere record;
begin
    select s.* into strict rules from public.account_settings as s;
    select a.* into pair
    from public.sign_in_attempts as a
    where a.email_digest = sign_in_locked.email_digest
        and a.address = sign_in_locked.address;
    if pair.failures >= rules.failures_before_lock
        and current_timestamp < pair.last_failed_at + least(
            rules.lock_limit,
            rules.lock_base * power(
                2, least(pair.failures - rules.failures_before_lock, 20)
            )
        )
    then
        return true;
    end if;
    if pair.last_succeeded_at is not null then
        return false;
    end if;
    select sum(a.failures) as failures, max(a.last_failed_at) as last_failed_at
    into everywhere
    from public.sign_in_attempts as a
    where a.email_digest = sign_in_locked.email_digest
        and a.last_failed_at > current_timestamp - interval '1 day';
    return coalesce(
        everywhere.failures >= rules.failures_before_slow
        and current_timestamp < everywhere.last_failed_at + rules.slow_interval,
        false
    );
end
$$;

comment on function public.sign_in_locked(bytea, inet) is
'Whether sign-in for this e-mail from this address has to wait.';
