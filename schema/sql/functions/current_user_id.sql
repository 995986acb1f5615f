-- The user on whose behalf the transaction runs; every policy asks it.
--
-- Returns null, which no policy matches, for: no context, an empty one (what an
-- unset value becomes after SET LOCAL), an unknown user, a deactivated one and,
-- where contexts are signed, a signature that is not of this transaction.
-- A malformed uuid is an error. Who may call: whoever a policy applies to.
-- Called as (select current_user_id()) in policies: once per query.
set local role pandom_definer;

create or replace function public.current_user_id()
returns uuid
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
declare
    claimed constant text := current_setting('app.current_user_id', true);
    claimed_uuid uuid;
    signing record;
begin
    if claimed is null or claimed = '' then
        return null;
    end if;
    claimed_uuid := claimed::uuid;
    select k.enforced, k.secret into signing
    from public.auth_users as u
    cross join public.context_key as k
    where u.uuid = claimed_uuid and u.is_active;
    if not found then
        return null;
    end if;
    -- "is not true": a missing signature equals nothing, not even a missing one.
    if signing.enforced
        and (
            current_setting('app.context_signature', true)
            = public.context_signature(
                signing.secret, claimed_uuid, current_setting('app.session_id', true)
            )
        ) is not true
    then
        return null;
    end if;
    return claimed_uuid;
end
$$;

comment on function public.current_user_id() is
'The user of the transaction''s context, or null; every policy asks it.';
