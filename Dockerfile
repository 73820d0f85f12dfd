# Runs the quickstart on a CPU, without data:
#   docker build --tag netinv . && docker run --rm --volume "$PWD/runs:/netinv/runs" netinv
# Other commands: docker run --rm netinv netinv --help
FROM python:3.12-slim
WORKDIR /netinv
COPY pyproject.toml constraints.txt README.md LICENSE /source/
COPY conf /source/conf
COPY netinv_lightning /source/netinv_lightning
RUN pip install --no-cache-dir uv \
 && uv pip install --system --no-cache --torch-backend cpu --constraint /source/constraints.txt \
 /source \
 && rm -r /source
CMD ["netinv", "+experiment=quickstart"]
