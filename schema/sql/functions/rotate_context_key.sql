-- Makes a new key for signing contexts; open transactions lose their context.
set local role pandom_definer;

create or replace function public.rotate_context_key()
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
    update public.context_key as k
    set secret = public.gen_random_bytes(32), created_at = current_timestamp
    where k.only_row;
    perform public.write_event(
        'security_logs', null, 'context_key_rotated', 'warning', '{}'
    );
end
$$;

comment on function public.rotate_context_key() is
'Makes a new key for signing contexts; for the operator.';
