# The image of head and workers: one build for each, from Ray's image of the same version.
#
#   docker build -t REGISTRY/ray-selfloop:0.1.0-ray2.60.0-cpu .
#   docker build -t REGISTRY/ray-selfloop:0.1.0-ray2.60.0-gpu \
#     --build-arg RAY_IMAGE=rayproject/ray:2.60.0-py311-cu128 .
#
# PyTorch's wheels bring their own CUDA 13, so the GPU nodes need a driver of 580 or newer, whatever
# CUDA the base has; cu128 keeps the base's libraries out of their way. The CPU build gets smaller
# with `--build-arg PIP_EXTRA_INDEX_URL=` and an index of PyTorch's CPU wheels.
ARG RAY_IMAGE=rayproject/ray:2.60.0-py311-cpu
FROM ${RAY_IMAGE}

ARG PIP_EXTRA_INDEX_URL=
# Not PYTHONDONTWRITEBYTECODE: every worker would compile everything anew, and start 4 times slower
ENV HF_HOME=/home/ray/cache/huggingface \
    RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 \
    RAY_USAGE_STATS_ENABLED=0 \
    MLFLOW_DISABLE_TELEMETRY=true

USER 1000
WORKDIR /home/ray/ray-selfloop

# Owned by uid 1000, `ray` in the base image, as what is mounted there (token, MLflow's volume)
RUN mkdir -p "$HOME/.ray" "$HOME/mlflow" "$HF_HOME"

# Packages first: this layer of gigabytes changes with the lock, not with the code. boto3 is for the
# head: Ray's autoscaler and MLflow's artifacts.
COPY --chown=ray:users pyproject.toml requirements.lock ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*project['dependencies'], *project['optional-dependencies']['s3'], sep='\n')" \
    > dependencies.txt \
    && pip install --no-cache-dir --compile --constraint requirements.lock \
    --requirement dependencies.txt boto3

COPY --chown=ray:users README.md LICENSE ./
COPY --chown=ray:users ray_selfloop ray_selfloop
COPY --chown=ray:users sweeps sweeps
RUN pip install --no-cache-dir --compile --no-deps .

WORKDIR /home/ray
