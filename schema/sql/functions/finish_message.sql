-- Removes a message that the mailer has sent.
set local role pandom_definer;

create or replace function public.finish_message(id bigint)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
    delete from public.outbox as o where o.id = finish_message.id;
    return found;
end
$$;

comment on function public.finish_message(bigint) is
'Removes a message that the mailer has sent.';
