"""Rules whose actions make folders and symlinks."""

def _tree(ctx):
    out = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(
        outputs = [out],
        command = "mkdir -p $1/deep/er $1/empty && echo 1 > $1/a && echo 2 > $1/deep/b && echo 1 > $1/deep/er/a",
        arguments = [out.path],
    )
    return [DefaultInfo(files = depset([out]))]

tree = rule(implementation = _tree)

def _listing(ctx):
    out = ctx.actions.declare_file(ctx.label.name + ".txt")
    source = ctx.files.src[0]
    ctx.actions.run_shell(
        inputs = [source],
        outputs = [out],
        command = "cd $1 && find . | sort > $OLDPWD/$2",
        arguments = [source.path, out.path],
    )
    return [DefaultInfo(files = depset([out]))]

listing = rule(implementation = _listing, attrs = {"src": attr.label()})

def _linked(ctx):
    out = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.run_shell(
        inputs = [ctx.file.src],
        outputs = [out],
        command = "ln -s $(basename $1) $2",
        arguments = [ctx.file.src.path, out.path],
    )
    return [DefaultInfo(files = depset([out, ctx.file.src]))]

linked = rule(implementation = _linked, attrs = {"src": attr.label(allow_single_file = True)})
