-- Stops everybody but an active administrator; the first line of admin_* functions.
--
-- Returns who it is. Error: insufficient_privilege.
set local role pandom_definer;

create or replace function public.require_admin()
returns uuid
language plpgsql
stable
set search_path = ''
as $$
begin
    if not public.current_user_is_admin() then
        raise exception 'only an active administrator may do this'
            using errcode = 'insufficient_privilege';
    end if;
    return public.current_user_id();
end
$$;

comment on function public.require_admin() is
'Stops everybody but an active administrator; returns who it is.';
