-- Keeps updated_at true on every UPDATE, whoever writes.
set local role pandom_owner;

create or replace function public.set_updated_at()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

comment on function public.set_updated_at() is
'Trigger: sets updated_at to the time of the transaction.';
